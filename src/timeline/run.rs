//! A workflow's run: its state as its events state it, and sums of what happened.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::describe::describe;
use super::event::Event;
use super::fields::Fields;
use super::pauses::{Edge, Pauses};
use super::register::Register;
use super::stages::{Stage, Stages};
use crate::event::EventType;

/// Statuses after which nothing more is expected.
const FINAL_STATUSES: [&str; 3] = ["completed", "failed", "cancelled"];

/// Risk score from which an alert is critical, and from which it is high, where it states no severity.
const CRITICAL_SCORE: f64 = 80.0;
const HIGH_SCORE: f64 = 60.0;

/// Events of one workflow, folded. Merges in any order; each event is added once.
///
/// It is serialized without its stages, whose number has no bound: they follow from the events alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Run {
    #[serde(skip_serializing_if = "Register::is_empty")]
    workflow_id: Register<String>,
    #[serde(skip_serializing_if = "Register::is_empty")]
    organization_id: Register<String>,
    bom_ids: BTreeSet<Uuid>,
    #[serde(skip_serializing_if = "Register::is_empty")]
    status: Register<String>,
    #[serde(skip_serializing_if = "Register::is_empty")]
    stage: Register<String>,
    #[serde(skip_serializing_if = "Register::is_empty")]
    total: Register<u64>,
    #[serde(skip_serializing_if = "Register::is_empty")]
    completed: Register<u64>,
    #[serde(skip_serializing_if = "Register::is_empty")]
    failed: Register<u64>,
    #[serde(skip_serializing_if = "Register::is_empty")]
    percent: Register<u64>,
    #[serde(skip_serializing_if = "Register::is_empty")]
    last_error: Register<String>,
    events: u64,
    errors: u64,
    risks: Risks,
    /// Lines of the BOM whose progress was reported, by success and failure.
    succeeded_lines: u64,
    failed_lines: u64,
    #[serde(skip_serializing_if = "Pauses::is_empty")]
    pauses: Pauses,
    #[serde(skip)]
    stages: Stages,
    times: Option<(DateTime<Utc>, DateTime<Utc>)>,
}

/// Risk alerts by severity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Risks {
    /// From 80 on.
    pub critical: u64,
    /// From 60 on.
    pub high: u64,
    /// The others.
    pub medium: u64,
}

/// State of a workflow that follows from its events.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Summary {
    /// Workflow, where its events name one.
    pub workflow_id: Option<String>,
    /// Organization as the producer names it.
    pub organization_id: Option<String>,
    /// BOMs that its events are about.
    pub bom_ids: Vec<Uuid>,
    /// Events.
    pub events: u64,
    /// Status that was stated last, else `running`.
    pub status: String,
    /// Stage that was stated last.
    pub stage: Option<String>,
    /// Lines of the BOM.
    pub total_items: Option<u64>,
    /// Lines that are done: as stated, else as counted.
    pub completed_items: Option<u64>,
    /// Lines that failed: as stated, else as counted.
    pub failed_items: Option<u64>,
    /// Progress in percent: as stated, else from the counts.
    pub percent: Option<u64>,
    /// Events of type `error`.
    pub errors: u64,
    /// Description of the last error.
    pub last_error: Option<String>,
    /// Risk alerts.
    pub risks: Risks,
    /// Pauses.
    pub pauses: u64,
    /// Milliseconds of all pauses that ended.
    pub paused_ms: i64,
    /// Stages.
    pub stages: Vec<Stage>,
    /// Time of the first event.
    pub first_at: DateTime<Utc>,
    /// Time of the last event.
    pub last_at: DateTime<Utc>,
    /// Time of the event that gave a final status, where the status is final.
    pub ended_at: Option<DateTime<Utc>>,
}

impl Run {
    /// Returns whether no event was added.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events == 0
    }

    /// Takes in an event.
    pub fn add(&mut self, event: &Event<'_>) {
        let (at, state, payload) = (event.moment(), Fields::of(event.state), Fields::of(event.payload));
        let event_type = EventType::from_name(event.event_type);
        self.events += 1;
        self.bom_ids.insert(event.bom_id);
        self.widen(event.created_at, event.created_at);
        self.workflow_id.state(at, event.workflow_id.map(str::to_owned));
        self.organization_id.state(at, event.organization_id.map(str::to_owned));
        self.stages.add(event);

        let implied_status = match event_type {
            Some(EventType::ProcessingStarted | EventType::WorkflowResumed) => Some("running"),
            Some(EventType::WorkflowPaused) => Some("paused"),
            _ => None,
        };
        let stated = |name| state.text(name).filter(|text| !text.is_empty());
        let is = |wanted| event_type == Some(wanted);
        self.status.state(at, stated("status").or_else(|| implied_status.map(str::to_owned)));
        let started_stage = || payload.text("stage").filter(|_| is(EventType::StageStarted));
        self.stage.state(at, stated("current_stage").or_else(started_stage));
        let announced = || payload.count("total_items").filter(|_| is(EventType::ProcessingStarted));
        self.total.state(at, state.count("total_items").or_else(announced));
        self.completed.state(at, state.count("completed_items"));
        self.failed.state(at, state.count("failed_items"));
        self.percent.state(at, state.count("percent").map(|percent| percent.min(100)));

        match event_type {
            Some(EventType::Error) => {
                self.errors += 1;
                self.last_error.state(at, Some(describe(event)));
            }
            Some(EventType::RiskAlert) => self.risks.count(&payload),
            Some(EventType::EnrichmentProgress) => match payload.text("status").as_deref() {
                Some("error") => self.failed_lines += 1,
                _ => self.succeeded_lines += 1,
            },
            Some(EventType::WorkflowPaused) => self.pauses.add(at, Edge::Pause),
            Some(EventType::WorkflowResumed) => self.pauses.add(at, Edge::Resume),
            _ => {}
        }
    }

    /// Takes in another part of the workflow's events.
    pub fn merge(&mut self, other: Run) {
        self.events += other.events;
        self.errors += other.errors;
        self.risks.critical += other.risks.critical;
        self.risks.high += other.risks.high;
        self.risks.medium += other.risks.medium;
        self.succeeded_lines += other.succeeded_lines;
        self.failed_lines += other.failed_lines;
        self.merge_statements(other);
    }

    /// Takes in what events state that may have been added before: everything but the sums, which stay as they are.
    pub fn merge_statements(&mut self, other: Run) {
        self.workflow_id.merge(other.workflow_id);
        self.organization_id.merge(other.organization_id);
        self.bom_ids.extend(other.bom_ids);
        self.status.merge(other.status);
        self.stage.merge(other.stage);
        self.total.merge(other.total);
        self.completed.merge(other.completed);
        self.failed.merge(other.failed);
        self.percent.merge(other.percent);
        self.last_error.merge(other.last_error);
        self.pauses.merge(other.pauses);
        self.stages.merge(other.stages);
        if let Some((first, last)) = other.times {
            self.widen(first, last);
        }
    }

    fn widen(&mut self, first: DateTime<Utc>, last: DateTime<Utc>) {
        let (known_first, known_last) = self.times.unwrap_or((first, last));
        self.times = Some((known_first.min(first), known_last.max(last)));
    }

    /// Returns the state that follows; `None` where no event was added.
    #[must_use]
    pub fn summary(&self) -> Option<Summary> {
        let (first_at, last_at) = self.times?;
        let total_items = self.total.get().copied();
        let lines = self.succeeded_lines + self.failed_lines;
        let counted = |count: u64| (lines > 0).then_some(count);
        let completed_items = self.completed.get().copied().or(counted(self.succeeded_lines));
        let failed_items = self.failed.get().copied().or(counted(self.failed_lines));
        let (pauses, paused_ms) = self.pauses.totals();
        let status = self.status.get().cloned().unwrap_or_else(|| "running".to_owned());
        let ended_at = self.status.at().filter(|_| FINAL_STATUSES.contains(&status.as_str()));
        Some(Summary {
            workflow_id: self.workflow_id.get().cloned(),
            organization_id: self.organization_id.get().cloned(),
            bom_ids: self.bom_ids.iter().copied().collect(),
            events: self.events,
            status,
            stage: self.stage.get().cloned(),
            total_items,
            completed_items,
            failed_items,
            percent: self
                .percent
                .get()
                .copied()
                .or_else(|| percent(total_items?, completed_items?, failed_items)),
            errors: self.errors,
            last_error: self.last_error.get().cloned(),
            risks: self.risks,
            pauses,
            paused_ms,
            stages: self.stages.list(),
            first_at,
            last_at,
            ended_at,
        })
    }
}

impl Risks {
    fn count(&mut self, payload: &Fields<'_>) {
        let score = payload.number("risk_score").unwrap_or_default();
        match payload.text("severity").as_deref() {
            Some("critical") => self.critical += 1,
            Some("high") => self.high += 1,
            Some("medium") => self.medium += 1,
            _ if score >= CRITICAL_SCORE => self.critical += 1,
            _ if score >= HIGH_SCORE => self.high += 1,
            _ => self.medium += 1,
        }
    }
}

/// Returns the share of the lines that are through, in percent.
fn percent(total: u64, completed: u64, failed: Option<u64>) -> Option<u64> {
    let through = completed.saturating_add(failed.unwrap_or_default()).min(total);
    let percent = (u128::from(through) * 100).checked_div(u128::from(total))?;
    u64::try_from(percent).ok()
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
