//! How a workflow stands, as its events tell it.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use uuid::Uuid;

use crate::cli::output;
use crate::cli::words::{self, Fields};
use crate::event::EventType;
use crate::store::read::StoredEvent;

/// Events of a workflow, by time and id; they may be added in any order, and more than once.
#[derive(Debug, Default)]
pub(super) struct Story(BTreeMap<(DateTime<Utc>, Uuid), Fact>);

/// What an event says of its workflow.
#[derive(Debug)]
struct Fact {
    bom_id: Uuid,
    workflow_id: Option<String>,
    status: Option<String>,
    stage: Option<String>,
    total: Option<u64>,
    completed: Option<u64>,
    failed: Option<u64>,
    percent: Option<u64>,
    happened: Happened,
}

#[derive(Debug)]
enum Happened {
    Started,
    StageStarted(String),
    StageCompleted(String, Option<f64>),
    Paused,
    Resumed,
    Error(String),
    Line { failed: bool },
    Other,
}

/// The state that follows from all events.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Ended {
    workflow_id: Option<String>,
    bom_ids: Vec<Uuid>,
    events: usize,
    status: String,
    stage: Option<String>,
    total_items: Option<u64>,
    completed_items: Option<u64>,
    failed_items: Option<u64>,
    percent: Option<u64>,
    errors: u64,
    last_error: Option<String>,
    pauses: u64,
    /// Milliseconds of all pauses that ended.
    paused_ms: i64,
    stages: Vec<Stage>,
    first_at: DateTime<Utc>,
    last_at: DateTime<Utc>,
}

/// One run of a stage; one that is repeated stands here again.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Stage {
    stage: String,
    started_at: Option<DateTime<Utc>>,
    completed_at: Option<DateTime<Utc>>,
    /// As the event says it, else from the two times.
    duration_ms: Option<f64>,
}

impl Story {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn add(&mut self, event: &StoredEvent) {
        let (state, payload) = (Fields::of(&event.state), Fields::of(&event.payload));
        let kind = EventType::from_name(&event.event_type);
        let stage = || payload.text("stage").unwrap_or_else(|| "?".to_owned());
        let happened = match kind {
            Some(EventType::ProcessingStarted) => Happened::Started,
            Some(EventType::StageStarted) => Happened::StageStarted(stage()),
            Some(EventType::StageCompleted) => Happened::StageCompleted(stage(), payload.milliseconds()),
            Some(EventType::WorkflowPaused) => Happened::Paused,
            Some(EventType::WorkflowResumed) => Happened::Resumed,
            Some(EventType::Error) => Happened::Error(words::of(event)),
            Some(EventType::EnrichmentProgress) => {
                Happened::Line { failed: payload.text("status").is_some_and(|status| status == "error") }
            }
            _ => Happened::Other,
        };
        let started = kind == Some(EventType::ProcessingStarted);
        let fact = Fact {
            bom_id: event.bom_id,
            workflow_id: event.workflow_id.clone(),
            status: state.text("status").filter(|status| !status.is_empty()),
            stage: state.text("current_stage"),
            total: state.count("total_items").or_else(|| payload.count("total_items").filter(|_| started)),
            completed: state.count("completed_items"),
            failed: state.count("failed_items"),
            percent: state.count("percent").map(|percent| percent.min(100)),
            happened,
        };
        self.0.insert((event.created_at, event.id), fact);
    }

    /// What its producer said last wins; where it said nothing, what happened is counted.
    pub(super) fn end(self) -> Ended {
        let (mut end, mut paused_since, mut lines, mut broken) = (Ended::default(), None, 0, 0);
        let mut status = "running";
        end.events = self.0.len();
        for ((now, _), fact) in self.0 {
            if end.bom_ids.is_empty() {
                end.first_at = now;
            }
            end.last_at = now;
            if !end.bom_ids.contains(&fact.bom_id) {
                end.bom_ids.push(fact.bom_id);
            }
            match fact.happened {
                Happened::Started => status = "running",
                Happened::StageStarted(stage) => {
                    end.stage = Some(stage.clone());
                    let started_at = Some(now);
                    end.stages.push(Stage { stage, started_at, completed_at: None, duration_ms: None });
                }
                Happened::StageCompleted(stage, duration_ms) => end.complete(stage, now, duration_ms),
                Happened::Paused => {
                    end.pauses += 1;
                    status = "paused";
                    paused_since.get_or_insert(now);
                }
                Happened::Resumed => {
                    let paused = paused_since.take().map_or_else(TimeDelta::zero, |since| now - since);
                    end.paused_ms += paused.num_milliseconds();
                    status = "running";
                }
                Happened::Error(words) => {
                    end.errors += 1;
                    end.last_error = Some(words);
                }
                Happened::Line { failed } => {
                    lines += 1;
                    broken += u64::from(failed);
                }
                Happened::Other => {}
            }
            let latest = |known: &mut Option<u64>, said: Option<u64>| *known = said.or(*known);
            latest(&mut end.total_items, fact.total);
            latest(&mut end.completed_items, fact.completed);
            latest(&mut end.failed_items, fact.failed);
            latest(&mut end.percent, fact.percent);
            end.stage = fact.stage.or(end.stage);
            end.workflow_id = fact.workflow_id.or(end.workflow_id);
            end.status = fact.status.unwrap_or_else(|| {
                // Only pauses are told by events alone.
                if matches!(end.status.as_str(), "" | "running" | "paused") {
                    status.to_owned()
                } else {
                    end.status.clone()
                }
            });
        }
        if lines > 0 {
            end.completed_items.get_or_insert(lines - broken);
            end.failed_items.get_or_insert(broken);
        }
        if let (None, Some(total @ 1..), Some(done)) = (end.percent, end.total_items, end.completed_items) {
            let done = done.saturating_add(end.failed_items.unwrap_or_default()).min(total);
            end.percent = Some((u128::from(done) * 100 / u128::from(total)) as u64);
        }
        end
    }
}

impl Ended {
    fn complete(&mut self, stage: String, now: DateTime<Utc>, duration_ms: Option<f64>) {
        let open = self.stages.iter_mut().rev().find(|run| run.stage == stage && run.completed_at.is_none());
        match open {
            Some(run) => {
                run.completed_at = Some(now);
                let between = run.started_at.map(|started| (now - started).num_milliseconds() as f64);
                run.duration_ms = duration_ms.or(between);
            }
            // Its beginning is not stored, or not yet.
            None => self.stages.push(Stage { stage, started_at: None, completed_at: Some(now), duration_ms }),
        }
    }

    /// Name and value of each line, for people.
    pub(super) fn lines(&self) -> Vec<(&'static str, String)> {
        let time = |at: DateTime<Utc>| at.format("%Y-%m-%d %H:%M:%S").to_string();
        let mut lines = vec![("workflow", output::safe(self.workflow_id.as_deref().unwrap_or("-")))];
        for bom_id in &self.bom_ids {
            lines.push(("bom", bom_id.to_string()));
        }
        lines.push(("status", output::safe(&self.status)));
        if let Some(stage) = &self.stage {
            lines.push(("stage", output::safe(stage)));
        }
        lines.push(("progress", self.progress()));
        lines.push((
            "errors",
            match &self.last_error {
                Some(last) => format!("{}, the last: {last}", self.errors),
                None => "none".to_owned(),
            },
        ));
        lines.push((
            "pauses",
            match self.pauses {
                0 => "none".to_owned(),
                pauses => format!("{pauses}, {} in all", words::duration(self.paused_ms as f64)),
            },
        ));
        for run in &self.stages {
            let took = match (run.duration_ms, run.completed_at) {
                (Some(took), _) => words::duration(took),
                (None, Some(_)) => "done".to_owned(),
                (None, None) => "not done".to_owned(),
            };
            lines.push(("took", format!("{}: {took}", output::safe(&run.stage))));
        }
        let whole = words::duration((self.last_at - self.first_at).num_milliseconds() as f64);
        lines.push((
            "events",
            format!("{}, from {} to {} ({whole})", self.events, time(self.first_at), time(self.last_at)),
        ));
        lines
    }

    fn progress(&self) -> String {
        let percent = self.percent.map(|percent| format!(" ({percent} %)")).unwrap_or_default();
        let failed = match self.failed_items {
            None | Some(0) => String::new(),
            Some(failed) => format!(", {failed} failed"),
        };
        match (self.completed_items, self.total_items) {
            (Some(done), Some(total)) => format!("{done} of {total} items{percent}{failed}"),
            (Some(done), None) => format!("{done} items{percent}{failed}"),
            (None, Some(total)) => format!("{total} items{percent}{failed}"),
            (None, None) if !percent.is_empty() => percent.trim().to_owned(),
            (None, None) => "not known".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(events: &[StoredEvent]) -> Ended {
        let mut story = Story::default();
        // Newest first, as they are read.
        events.iter().rev().for_each(|event| story.add(event));
        story.end()
    }

    #[test]
    fn a_whole_workflow() {
        let end = told(&[
            StoredEvent::example(0, "processing_started", r#"{"total_items":4}"#, "{}"),
            StoredEvent::example(1, "stage_started", r#"{"stage":"parsing"}"#, "{}"),
            StoredEvent::example(3, "stage_completed", r#"{"stage":"parsing","duration_ms":1500}"#, "{}"),
            StoredEvent::example(4, "stage_started", r#"{"stage":"enrichment"}"#, "{}"),
            StoredEvent::example(5, "enrichment_progress", r#"{"mpn":"a","status":"matched"}"#, "{}"),
            StoredEvent::example(6, "enrichment_progress", r#"{"mpn":"b","status":"error"}"#, "{}"),
            StoredEvent::example(7, "workflow_paused", r#"{"reason":"quota"}"#, "{}"),
            StoredEvent::example(17, "workflow_resumed", r#"{"reason":"quota"}"#, "{}"),
            StoredEvent::example(18, "error", r#"{"error_message":"broke"}"#, "{}"),
            StoredEvent::example(20, "stage_completed", r#"{"stage":"enrichment"}"#, "{}"),
        ]);
        assert_eq!((end.status.as_str(), end.stage.as_deref()), ("running", Some("enrichment")));
        assert_eq!((end.completed_items, end.failed_items, end.percent), (Some(1), Some(1), Some(50)));
        assert_eq!((end.errors, end.pauses, end.paused_ms), (1, 1, 10_000));
        let took: Vec<_> = end.stages.iter().map(|run| run.duration_ms).collect();
        assert_eq!(took, [Some(1500.0), Some(16_000.0)], "as the event says it, else from the times");
    }

    #[test]
    fn what_the_producer_says_last_wins() {
        let end = told(&[
            StoredEvent::example(
                0,
                "stage_started",
                r#"{"stage":"parsing"}"#,
                r#"{"status":"running","percent":1,"total_items":9}"#,
            ),
            StoredEvent::example(
                1,
                "x",
                "{}",
                r#"{"status":"completed","percent":100,"completed_items":9,"current_stage":"risk"}"#,
            ),
            StoredEvent::example(2, "cache_hit", "{}", "{}"),
        ]);
        assert_eq!(
            (end.status.as_str(), end.percent, end.stage.as_deref()),
            ("completed", Some(100), Some("risk"))
        );
        assert!(end.lines().contains(&("progress", "9 of 9 items (100 %)".to_owned())), "{:?}", end.lines());
    }

    #[test]
    fn a_pause_that_is_told_twice_is_as_long_as_from_the_first() {
        let end = told(&[
            StoredEvent::example(0, "workflow_paused", "{}", "{}"),
            StoredEvent::example(600, "workflow_paused", "{}", r#"{"percent": 250}"#),
            StoredEvent::example(660, "workflow_resumed", "{}", "{}"),
            StoredEvent::example(661, "stage_completed", r#"{"stage":"x","duration_ms":-5}"#, "{}"),
        ]);
        assert_eq!((end.pauses, end.paused_ms, end.percent), (2, 660_000, Some(100)));
        assert_eq!(end.stages[0].duration_ms, None);
    }

    #[test]
    fn a_pause_that_has_not_ended() {
        let end = told(&[StoredEvent::example(0, "workflow_paused", "{}", "{}")]);
        assert_eq!((end.status.as_str(), end.pauses, end.paused_ms), ("paused", 1, 0));
        assert!(end.lines().contains(&("progress", "not known".to_owned())));
    }

    #[test]
    fn a_stage_that_ran_twice_stands_twice() {
        let end = told(&[
            StoredEvent::example(0, "stage_started", r#"{"stage":"parsing"}"#, "{}"),
            StoredEvent::example(1, "stage_started", r#"{"stage":"parsing"}"#, "{}"),
            StoredEvent::example(2, "stage_completed", r#"{"stage":"parsing"}"#, "{}"),
            StoredEvent::example(3, "stage_completed", r#"{"stage":"risk_analysis"}"#, "{}"),
        ]);
        let runs: Vec<_> = end.stages.iter().map(|run| (run.stage.as_str(), run.duration_ms)).collect();
        assert_eq!(runs, [("parsing", None), ("parsing", Some(1000.0)), ("risk_analysis", None)]);
    }
}
