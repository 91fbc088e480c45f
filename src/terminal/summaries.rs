//! Summaries as tables.

use chrono::{DateTime, Utc};

use super::table::table;
use super::text::safe;
use crate::store::read::summaries::{Counts, Step, WorkflowRun};

/// Returns workflows as a table, one line each.
pub(crate) fn workflows(runs: &[WorkflowRun], tenants: bool) -> String {
    let header = ["workflow", "bom", "status", "stage", "progress", "errors", "risks", "last event (UTC)"];
    let mut table = table(header);
    if tenants {
        table.set_header(["tenant"].into_iter().chain(header));
    }
    for run in runs {
        let tenant = tenants.then(|| run.tenant_id.to_string());
        table.add_row(tenant.into_iter().chain([
            safe(&run.workflow_id),
            run.bom_id.to_string(),
            safe(&run.status),
            run.stage.as_deref().map_or_else(|| "-".to_owned(), safe),
            progress(run),
            run.errors.to_string(),
            risks(run),
            time(run.last_at),
        ]));
    }
    table.to_string()
}

fn progress(run: &WorkflowRun) -> String {
    let percent = run.percent.map(|percent| format!(" ({percent} %)")).unwrap_or_default();
    match (run.completed_items, run.total_items) {
        (Some(done), Some(total)) => format!("{done} of {total}{percent}"),
        (Some(done), None) => format!("{done}{percent}"),
        _ if percent.is_empty() => "-".to_owned(),
        _ => percent.trim().to_owned(),
    }
}

fn risks(run: &WorkflowRun) -> String {
    let risks = [(run.risks.critical, "critical"), (run.risks.high, "high"), (run.risks.medium, "medium")];
    let risks: Vec<_> = risks
        .iter()
        .filter(|(count, _)| *count > 0)
        .map(|(count, severity)| format!("{count} {severity}"))
        .collect();
    if risks.is_empty() { "-".to_owned() } else { risks.join(", ") }
}

/// Returns numbers of events as a table, one line for each step, and numbers of workflows as another.
pub(crate) fn counts(counts: &Counts, step: Step) -> String {
    let totals = counts.totals();
    let mut events = table([""; 0]);
    let names = totals.keys().map(|name| safe(name));
    events.set_header(["time (UTC)".to_owned(), "events".to_owned()].into_iter().chain(names));
    let format = if step == Step::Day { "%Y-%m-%d" } else { "%Y-%m-%d %H:%M" };
    for step in &counts.steps {
        let cells = totals.keys().map(|name| step.counts.get(name).map_or_else(String::new, i64::to_string));
        events
            .add_row([step.at.format(format).to_string(), step.events.to_string()].into_iter().chain(cells));
    }
    let sum: i64 = totals.values().sum();
    let sums = totals.values().map(i64::to_string);
    events.add_row(["all".to_owned(), sum.to_string()].into_iter().chain(sums));
    let mut workflows = table(["status", "workflows"]);
    for (status, count) in &counts.workflows {
        workflows.add_row([safe(status), count.to_string()]);
    }
    format!("{events}\n{workflows}")
}

/// Writes a time as tables do.
pub(crate) fn time(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S").to_string()
}
