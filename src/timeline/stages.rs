//! Stages of a workflow, from the events that start and complete them.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::event::Event;
use super::fields::Fields;
use super::register::Moment;
use crate::event::EventType;

/// Events that start or complete a stage. Merges in any order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stages(BTreeMap<Moment, StageEvent>);

#[derive(Clone, Debug, PartialEq)]
enum StageEvent {
    Started { stage: String },
    Completed { stage: String, duration_ms: Option<f64> },
}

/// One run of a stage. A stage that is repeated is listed again.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Stage {
    /// Name.
    pub stage: String,
    /// Time of its start, where that is stored.
    #[schema(required)]
    pub started_at: Option<DateTime<Utc>>,
    /// Time of its completion, once it is completed.
    #[schema(required)]
    pub completed_at: Option<DateTime<Utc>>,
    /// Duration as the event states it, else from the two times, in milliseconds.
    #[schema(required)]
    pub duration_ms: Option<f64>,
}

impl Stages {
    /// Takes in an event; one that is not about a stage changes nothing.
    pub fn add(&mut self, event: &Event<'_>) {
        let started = match EventType::from_name(event.event_type) {
            Some(EventType::StageStarted) => true,
            Some(EventType::StageCompleted) => false,
            _ => return,
        };
        let payload = Fields::of(event.payload);
        let stage = payload.text("stage").unwrap_or_else(|| "?".to_owned());
        let what = if started {
            StageEvent::Started { stage }
        } else {
            StageEvent::Completed { stage, duration_ms: payload.milliseconds() }
        };
        self.0.insert(event.moment(), what);
    }

    /// Takes in the events of another part.
    pub fn merge(&mut self, other: Self) {
        self.0.extend(other.0);
    }

    /// Lists the stages in the order of their start, or of their completion where their start is not stored.
    #[must_use]
    pub fn list(&self) -> Vec<Stage> {
        let mut stages: Vec<Stage> = Vec::new();
        for ((at, _), event) in &self.0 {
            match event {
                StageEvent::Started { stage } => stages.push(Stage {
                    stage: stage.clone(),
                    started_at: Some(*at),
                    completed_at: None,
                    duration_ms: None,
                }),
                StageEvent::Completed { stage, duration_ms } => {
                    complete(&mut stages, stage, *at, *duration_ms);
                }
            }
        }
        stages
    }
}

fn complete(stages: &mut Vec<Stage>, stage: &str, at: DateTime<Utc>, duration_ms: Option<f64>) {
    let open = stages.iter_mut().rev().find(|run| run.stage == stage && run.completed_at.is_none());
    match open {
        Some(run) => {
            run.completed_at = Some(at);
            let between = run.started_at.map(|started| (at - started).num_milliseconds() as f64);
            run.duration_ms = duration_ms.or(between);
        }
        None => stages.push(Stage {
            stage: stage.to_owned(),
            started_at: None,
            completed_at: Some(at),
            duration_ms,
        }),
    }
}
