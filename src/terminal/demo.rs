//! The report of the demonstration, as text.

use super::table::table;
use super::text::safe;
use crate::counted::counted;
use crate::demo::{Bom, Report, TypeCount};

/// Returns the report of a scenario.
pub(crate) fn report(report: &Report, bom: &Bom, metrics: &str) -> String {
    let mut lines = Vec::new();
    lines.push(format!("BOM {} ({})", report.bom_id, safe(&bom.name)));
    lines.push(format!("Read: {}", safe(&bom.how_read())));
    bom.skipped_texts().iter().for_each(|skipped| lines.push(format!("Skipped: {skipped}")));
    lines.push(String::new());
    let mut rows = table(["event type", "published", "stored", "duplicates"]);
    let total = TypeCount {
        name: "total",
        published: report.types.iter().map(|count| count.published).sum(),
        stored: report.types.iter().map(|count| count.stored).sum(),
    };
    for count in report.types.iter().chain([&total]) {
        let [published, stored, duplicates] =
            [count.published, count.stored, count.duplicates()].map(|number| number.to_string());
        rows.add_row([count.name.to_owned(), published, stored, duplicates]);
    }
    lines.push(rows.to_string());

    lines.push("\nTimeline".to_owned());
    let mut rows = table(["time (UTC)", "event", "description"]);
    for row in report.timeline() {
        let time = row.at.format("%H:%M:%S%.3f").to_string();
        rows.add_row([time, row.event_type, safe(&row.text)]);
    }
    lines.push(rows.to_string());

    if let Some(state) = report.final_state() {
        lines.push(format!("\nFinal state        {}", safe(state.get())));
    }
    lines.push(match report.latency {
        Some(latency) => {
            format!("Publish to commit  p50 {:.1} ms, p99 {:.1} ms", latency.p50 * 1e3, latency.p99 * 1e3)
        }
        None => "Publish to commit  unknown: the server has track_commit_timestamp = off".to_owned(),
    });
    lines.push(format!("Metrics            {metrics}"));
    lines.push(if report.is_complete() {
        format!("\nOK: {}, each stored exactly once; the queue is empty.", counted(report.events, "event"))
    } else {
        let ids = &report.not_stored_once;
        format!("\nFAILED: not stored exactly once: {}: {}", counted(ids.len(), "event"), ids.join(", "))
    });
    lines.join("\n")
}
