//! What the store has, beside what was published.

use std::collections::BTreeMap;

use anyhow::Context as _;
use futures_util::TryStreamExt;
use serde_json::{Value, json};

use super::bom::Bom;
use crate::cli::output;
use crate::config::Config;
use crate::event::{Event, EventType, Workflow};
use crate::store::read::{AccessScope, Latency, Query, Reader, StoredEvent};
use crate::timeline::{describe, is_line_item};

/// Published and stored, side by side.
pub(super) struct Report {
    bom: String,
    bom_id: uuid::Uuid,
    /// Type, messages published, rows stored, in the contract's order.
    types: Vec<(String, usize, usize)>,
    events: usize,
    /// Events that are not in the table exactly once.
    wrong: Vec<String>,
    timeline: Vec<StoredEvent>,
    latency: Option<Latency>,
}

impl Report {
    pub(super) async fn gather(
        reader: &Reader,
        workflow: &Workflow,
        bom: &Bom,
        events: &[Event<'_>],
        copies: usize,
    ) -> anyhow::Result<Self> {
        let scope = AccessScope::tenant(workflow.tenant_id);
        let all = reader.stream(scope.clone(), Query::events_by_bom(workflow.bom_id, [""; 0], None)?);
        let mut timeline: Vec<StoredEvent> = all.try_collect().await.context("cannot read the table")?;
        timeline.reverse();
        let mut rows: BTreeMap<&str, usize> = BTreeMap::new();
        for stored in &timeline {
            *rows.entry(stored.event_id.as_str()).or_default() += 1;
        }
        let wrong = events
            .iter()
            .filter(|event| rows.get(event.event_id.as_ref()) != Some(&1))
            .map(|event| event.event_id.to_string())
            .collect();
        let types = EventType::ALL
            .into_iter()
            .map(|kind| {
                let published =
                    events.iter().filter(|event| event.event_type == kind.name()).count() * copies;
                let stored = timeline.iter().filter(|event| event.event_type == kind.name()).count();
                (kind.name().to_owned(), published, stored)
            })
            .filter(|(_, published, stored)| published + stored > 0)
            .collect();
        // A server that keeps no commit times cannot tell.
        let latency = reader.latency(&scope, workflow.bom_id).await.ok().flatten();
        Ok(Report {
            bom: bom.name.clone(),
            bom_id: workflow.bom_id,
            types,
            events: events.len(),
            wrong,
            timeline,
            latency,
        })
    }

    /// Whether every distinct event is stored exactly once, and nothing else.
    pub(super) fn complete(&self) -> bool {
        self.wrong.is_empty() && self.timeline.len() == self.events
    }

    pub(super) fn print(&self, config: &Config) {
        output::line(&format!("BOM {} ({})\n", self.bom_id, self.bom));
        let mut table = output::table(["event type", "published", "stored", "duplicates"]);
        let (mut published, mut stored) = (0, 0);
        for (name, sent, rows) in &self.types {
            (published, stored) = (published + sent, stored + rows);
            table.add_row([
                name,
                &sent.to_string(),
                &rows.to_string(),
                &sent.saturating_sub(*rows).to_string(),
            ]);
        }
        let duplicates = published.saturating_sub(stored);
        table.add_row(["total", &published.to_string(), &stored.to_string(), &duplicates.to_string()]);
        output::line(&table.to_string());

        output::line("\nTimeline");
        let mut table = output::table(["time (UTC)", "event", "what happened"]);
        for (time, name, words) in self.story() {
            table.add_row([time, name, words]);
        }
        output::line(&table.to_string());

        if let Some(last) = self.timeline.last() {
            output::line(&format!("\nFinal state        {}", last.state.get()));
        }
        output::line(&match self.latency {
            Some(Latency { p50, p99 }) => {
                format!("Publish to commit  p50 {:.1} ms, p99 {:.1} ms", p50 * 1e3, p99 * 1e3)
            }
            _ => "Publish to commit  not known: the server has track_commit_timestamp = off".into(),
        });
        output::line(&format!("Metrics            http://{}/metrics", config.http.listen));
        output::line(&if self.complete() {
            format!("\nOK: {} events, each stored exactly once; the queue is empty.", self.events)
        } else {
            format!(
                "\nFAILED: {} events are not stored exactly once: {}",
                self.wrong.len(),
                self.wrong.join(", ")
            )
        });
    }

    pub(super) fn print_json(&self, config: &Config) -> anyhow::Result<()> {
        let types: BTreeMap<_, _> = self
            .types
            .iter()
            .map(|(name, published, stored)| {
                (name, json!({"published": published, "stored": stored, "duplicates": published.saturating_sub(*stored)}))
            })
            .collect();
        let state: Option<Value> =
            self.timeline.last().map(|last| serde_json::from_str(last.state.get())).transpose()?;
        output::json(&json!({
            "bom_id": self.bom_id,
            "complete": self.complete(),
            "events": self.events,
            "types": types,
            "not_stored_once": self.wrong,
            "state": state,
            "publish_to_commit_seconds": self.latency.map(|latency| json!({"p50": latency.p50, "p99": latency.p99})),
            "metrics": format!("http://{}/metrics", config.http.listen),
        }))
    }

    /// The timeline in words; runs of the same per-line event are drawn together.
    fn story(&self) -> Vec<(String, String, String)> {
        let mut story = Vec::new();
        let mut lines = 0;
        for (number, event) in self.timeline.iter().enumerate() {
            let time = event.created_at.format("%H:%M:%S%.3f").to_string();
            if !is_line_item(&event.event_type) {
                story.push((time, event.event_type.clone(), output::safe(&describe(&event.timeline()))));
                continue;
            }
            lines += 1;
            if self.timeline.get(number + 1).is_none_or(|next| !is_line_item(&next.event_type)) {
                let what = format!("{} events about single lines", std::mem::take(&mut lines));
                story.push((time, "…".into(), what));
            }
        }
        story
    }
}
