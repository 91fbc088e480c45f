//! A run's summary as lines of text.

use chrono::{DateTime, Utc};

use super::run::Summary;
use super::text::duration;

/// Returns the name and the value of each line. Values may contain any characters of the producer.
#[must_use]
pub fn summary_lines(summary: &Summary) -> Vec<(&'static str, String)> {
    let mut lines = vec![("workflow", summary.workflow_id.clone().unwrap_or_else(|| "-".to_owned()))];
    for bom_id in &summary.bom_ids {
        lines.push(("bom", bom_id.to_string()));
    }
    lines.push(("status", summary.status.clone()));
    if let Some(stage) = &summary.stage {
        lines.push(("stage", stage.clone()));
    }
    lines.push(("progress", progress(summary)));
    lines.push(("errors", errors(summary)));
    lines.push(("risks", risks(summary)));
    lines.push(("pauses", pauses(summary)));
    for stage in &summary.stages {
        let took = match (stage.duration_ms, stage.completed_at) {
            (Some(took), _) => duration(took),
            (None, Some(_)) => "done".to_owned(),
            (None, None) => "not done".to_owned(),
        };
        lines.push(("took", format!("{}: {took}", stage.stage)));
    }
    let (first, last) = (summary.first_at, summary.last_at);
    let whole = duration((last - first).num_milliseconds() as f64);
    lines.push(("events", format!("{}, from {} to {} ({whole})", summary.events, time(first), time(last))));
    lines
}

fn time(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S").to_string()
}

fn progress(summary: &Summary) -> String {
    let percent = summary.percent.map(|percent| format!(" ({percent} %)")).unwrap_or_default();
    let failed = match summary.failed_items {
        None | Some(0) => String::new(),
        Some(failed) => format!(", {failed} failed"),
    };
    match (summary.completed_items, summary.total_items) {
        (Some(done), Some(total)) => format!("{done} of {total} items{percent}{failed}"),
        (Some(done), None) => format!("{done} items{percent}{failed}"),
        (None, Some(total)) => format!("{total} items{percent}{failed}"),
        (None, None) if !percent.is_empty() => percent.trim().to_owned(),
        (None, None) => "not known".to_owned(),
    }
}

fn errors(summary: &Summary) -> String {
    match &summary.last_error {
        Some(last) => format!("{}, the last: {}", summary.errors, last),
        None => "none".to_owned(),
    }
}

fn risks(summary: &Summary) -> String {
    let risks = summary.risks;
    let counts = [("critical", risks.critical), ("high", risks.high), ("medium", risks.medium)];
    let counts: Vec<_> = counts
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(severity, count)| format!("{count} {severity}"))
        .collect();
    if counts.is_empty() { "none".to_owned() } else { counts.join(", ") }
}

fn pauses(summary: &Summary) -> String {
    match summary.pauses {
        0 => "none".to_owned(),
        pauses => format!("{pauses}, {} in all", duration(summary.paused_ms as f64)),
    }
}
