//! The events of a workflow, as CNS publishes them for a BOM.
//!
//! The answers of suppliers are made up from the part number, the same each time. The events are real.

use std::borrow::Cow;

use serde_json::{Value, json, value::to_raw_value};

use super::bom::{Bom, Line};
use crate::event::payload::{
    CacheHit, ComponentMatched, Confidence, EnrichmentProgress, ErrorRaised, MatchStatus, Milliseconds,
    Object, ProcessingStarted, RiskAlert, RiskScore, StageCompleted, StageStarted, WorkflowPaused,
    WorkflowResumed,
};
use crate::event::{Event, Payload, Workflow, WorkflowState, empty_object};

/// Made-up answer of a supplier about a part.
struct Answer {
    status: MatchStatus,
    confidence: f64,
    supplier: &'static str,
    risk: f64,
}

impl Answer {
    /// Returns the answer, which is the same for the same part number (FNV-1a of it).
    fn about(line: &Line) -> Answer {
        let hash = line.mpn.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        let status = match hash % 20 {
            0 => MatchStatus::NoMatch,
            1..=4 => MatchStatus::Cached,
            _ => MatchStatus::Matched,
        };
        Answer {
            status,
            confidence: 0.80 + (hash >> 8) as u8 as f64 / 1280.0,
            supplier: ["DigiKey", "Mouser", "Farnell"][(hash >> 16) as usize % 3],
            risk: ((hash >> 24) % 101) as f64,
        }
    }
}

/// Writer of the events, one after the other.
struct Script<'a> {
    workflow: &'a Workflow,
    events: Vec<Event<'a>>,
    status: &'static str,
    stage: &'static str,
    total: usize,
    completed: usize,
    failed: usize,
}

impl Script<'_> {
    fn log(&mut self, payload: &impl Payload) -> Result<(), serde_json::Error> {
        let state = WorkflowState {
            status: self.status.into(),
            current_stage: Some(self.stage.into()),
            ..WorkflowState::running(self.total as u64, self.completed as u64, self.failed as u64)
        };
        let state = to_raw_value(&state)?;
        let mut event = self.workflow.event(payload, empty_object()).written()?;
        event.state = Cow::Owned(state);
        self.events.push(event);
        Ok(())
    }

    fn stage(&mut self, stage: &'static str) -> Result<(), serde_json::Error> {
        self.stage = stage;
        self.log(&StageStarted { stage: stage.into() })
    }

    fn stage_done(&mut self, duration_ms: f64, metrics: &Value) -> Result<(), serde_json::Error> {
        let duration_ms = Milliseconds::try_from(duration_ms).map_err(serde::ser::Error::custom)?;
        self.log(&StageCompleted {
            stage: self.stage.into(),
            duration_ms,
            metrics: Some(Object::from_value(metrics)?),
        })
    }

    fn enrich(&mut self, line: &Line) -> Result<(), serde_json::Error> {
        let answer = Answer::about(line);
        let confidence = Confidence::try_from(answer.confidence).map_err(serde::ser::Error::custom)?;
        match answer.status {
            MatchStatus::NoMatch | MatchStatus::Error => self.failed += 1,
            MatchStatus::Matched | MatchStatus::Cached => self.completed += 1,
        }
        if answer.status == MatchStatus::Cached {
            self.log(&CacheHit { cache: "components".into(), key: line.mpn.as_str().into() })?;
        }
        if answer.status == MatchStatus::Matched {
            self.log(&ComponentMatched {
                mpn: line.mpn.as_str().into(),
                matched_mpn: line.mpn.as_str().into(),
                manufacturer: line.manufacturer.as_deref().map(Into::into),
                confidence: Some(confidence),
                supplier: Some(answer.supplier.into()),
            })?;
        }
        let found = answer.status != MatchStatus::NoMatch;
        let maker = line.manufacturer.as_ref().map(|maker| json!({ "manufacturer": maker }));
        self.log(&EnrichmentProgress {
            mpn: line.mpn.as_str().into(),
            status: answer.status,
            confidence: found.then_some(confidence),
            supplier: found.then(|| answer.supplier.into()),
            match_details: maker.as_ref().map(Object::from_value).transpose()?,
        })
    }

    fn assess(&mut self, line: &Line) -> Result<bool, serde_json::Error> {
        let risk = RiskScore::try_from(Answer::about(line).risk).map_err(serde::ser::Error::custom)?;
        let severity = risk.severity();
        let alarming = severity != crate::event::payload::Severity::Medium;
        if alarming {
            let component_id = line.mpn.as_str().into();
            self.log(&RiskAlert { component_id, risk_score: risk, severity, risk_factors: None })?;
        }
        Ok(alarming)
    }
}

/// Returns the events of a BOM's workflow, in order.
pub(super) fn write<'w>(workflow: &'w Workflow, bom: &Bom) -> Result<Vec<Event<'w>>, serde_json::Error> {
    let total = bom.lines.len();
    let mut script = Script {
        workflow,
        events: Vec::new(),
        status: "running",
        stage: "parsing",
        total,
        completed: 0,
        failed: 0,
    };
    let message = Some(format!("{} with {total} lines", bom.name).into());
    script.log(&ProcessingStarted { total_items: total as u64, message })?;
    script.stage("parsing")?;
    script.stage_done(180.0, &json!({ "lines": total, "skipped": bom.skipped.len() }))?;
    script.stage("enrichment")?;
    for (number, line) in bom.lines.iter().enumerate() {
        if number == total / 2 {
            script.status = "paused";
            script.log(&WorkflowPaused { reason: "supplier quota nearly used up".into() })?;
            script.status = "running";
            script.log(&WorkflowResumed { reason: "quota raised".into() })?;
        }
        script.enrich(line)?;
    }
    script.log(&ErrorRaised {
        error_message: "price lookup timed out, kept the last known price".into(),
        error_code: Some("SUPPLIER_TIMEOUT".into()),
        error_details: None,
    })?;
    let figures = json!({ "matched": script.completed, "unmatched": script.failed });
    script.stage_done(4_200.0, &figures)?;
    script.stage("risk_analysis")?;
    let mut alerts = 0;
    for line in &bom.lines {
        alerts += usize::from(script.assess(line)?);
    }
    script.status = "completed";
    script.stage_done(950.0, &json!({ "alerts": alerts }))?;
    Ok(script.events)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_has_its_progress_and_the_end_is_completed() {
        let bom = Bom::sample().unwrap();
        let workflow = Workflow::new(uuid::Uuid::nil(), "org", "w");
        let events = write(&workflow, &bom).unwrap();
        let progress = events.iter().filter(|event| event.event_type == "enrichment_progress").count();
        assert_eq!(progress, bom.lines.len());
        for needed in ["processing_started", "workflow_paused", "workflow_resumed", "error", "risk_alert"] {
            assert!(events.iter().any(|event| event.event_type == needed), "{needed}");
        }
        let state: Value = serde_json::from_str(events.last().unwrap().state.get()).unwrap();
        assert_eq!((state["status"].as_str(), state["percent"].as_u64()), (Some("completed"), Some(100)));
    }
}
