//! The findings of `doctor`, as a table.

use comfy_table::Color;

use super::table::{colored, prose_table};
use super::text::safe_lines;
use crate::counted::counted;
use crate::doctor::{Check, Report, Status};

/// Returns the findings as a table, and their numbers.
pub(crate) fn report(report: &Report) -> String {
    let mut table = prose_table(["", "check", "found"]);
    for Check { check, status, found, fix } in &report.checks {
        let found = safe_lines(found);
        let found = fix.as_ref().map_or(found.clone(), |fix| format!("{found}\n→ {fix}"));
        let (word, color) = match status {
            Status::Ok => ("ok", Color::Green),
            Status::Warning => ("warning", Color::Yellow),
            Status::Wrong => ("wrong", Color::Red),
        };
        table.add_row([colored(word, color), check.into(), found.into()]);
    }
    let [ok, warnings, wrong] =
        [Status::Ok, Status::Warning, Status::Wrong].map(|status| report.count(status));
    format!("{table}\n{ok} ok, {}, {wrong} wrong", counted(warnings, "warning"))
}
