//! Comparison of the published and the stored events.

use std::collections::BTreeMap;

use anyhow::Context as _;
use chrono::{DateTime, Utc};
use futures_util::TryStreamExt;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::counted::counted;
use crate::event::{Event, EventType, Workflow};
use crate::store::read::{AccessScope, Latency, Query, Reader, StoredEvent};
use crate::timeline::{describe, is_line_item};

/// Result of a run.
#[derive(Debug)]
pub struct Report {
    /// Id of the BOM.
    pub bom_id: Uuid,
    /// Counts by event type, in the contract's order.
    pub types: Vec<TypeCount>,
    /// Number of distinct events.
    pub events: usize,
    /// `event_id`s of the events that are not stored exactly once.
    pub not_stored_once: Vec<String>,
    /// Latency; `None` where the server does not keep commit times.
    pub latency: Option<Latency>,
    stored: Vec<StoredEvent>,
}

/// Counts of one event type.
#[derive(Clone, Copy, Debug)]
pub struct TypeCount {
    /// Event type.
    pub name: &'static str,
    /// Messages that were published.
    pub published: usize,
    /// Rows that are stored.
    pub stored: usize,
}

impl TypeCount {
    /// Returns the number of messages that were recognised as duplicates.
    #[must_use]
    pub fn duplicates(&self) -> usize {
        self.published.saturating_sub(self.stored)
    }
}

/// Row of the timeline.
#[derive(Clone, Debug)]
pub struct TimelineRow {
    /// Time of the event, or of the last of several events about lines of the BOM.
    pub at: DateTime<Utc>,
    /// Type of the event, or `…`.
    pub event_type: String,
    /// Description.
    pub text: String,
}

impl Report {
    pub(super) async fn gather(
        reader: &Reader,
        workflow: &Workflow,
        events: &[Event<'_>],
        copies: usize,
    ) -> anyhow::Result<Self> {
        let scope = AccessScope::tenant(workflow.tenant_id);
        let all = reader.stream(scope.clone(), Query::events_by_bom(workflow.bom_id, [""; 0], None)?);
        let mut stored: Vec<StoredEvent> = all.try_collect().await.context("cannot read the table")?;
        stored.reverse();
        let mut rows: BTreeMap<&str, usize> = BTreeMap::new();
        for event in &stored {
            *rows.entry(event.event_id.as_str()).or_default() += 1;
        }
        let not_stored_once = events
            .iter()
            .filter(|event| rows.get(event.event_id.as_ref()) != Some(&1))
            .map(|event| event.event_id.to_string())
            .collect();
        let types = EventType::ALL
            .into_iter()
            .map(|event_type| {
                let name = event_type.name();
                let published = events.iter().filter(|event| event.event_type == name).count() * copies;
                let stored = stored.iter().filter(|event| event.event_type == name).count();
                TypeCount { name, published, stored }
            })
            .filter(|count| count.published + count.stored > 0)
            .collect();
        // A server that does not keep commit times has no latency.
        let latency = reader.latency(&scope, workflow.bom_id).await.ok().flatten();
        Ok(Report { bom_id: workflow.bom_id, types, events: events.len(), not_stored_once, latency, stored })
    }

    /// Returns whether every distinct event is stored exactly once, and nothing else.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.not_stored_once.is_empty() && self.stored.len() == self.events
    }

    /// Returns the state of the workflow in its last event.
    #[must_use]
    pub fn final_state(&self) -> Option<&RawValue> {
        self.stored.last().map(|event| event.state.as_ref())
    }

    /// Returns the timeline. Consecutive events about lines of the BOM share a row.
    #[must_use]
    pub fn timeline(&self) -> Vec<TimelineRow> {
        let mut timeline = Vec::new();
        let mut lines = 0_u64;
        for (number, event) in self.stored.iter().enumerate() {
            let at = event.created_at;
            if !is_line_item(&event.event_type) {
                let text = describe(&event.timeline());
                timeline.push(TimelineRow { at, event_type: event.event_type.clone(), text });
                continue;
            }
            lines += 1;
            if self.stored.get(number + 1).is_none_or(|next| !is_line_item(&next.event_type)) {
                let text = format!("{} about single lines", counted(std::mem::take(&mut lines), "event"));
                timeline.push(TimelineRow { at, event_type: "…".into(), text });
            }
        }
        timeline
    }
}
