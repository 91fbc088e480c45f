//! Dead letters as a table.

use super::table::table;
use super::text::safe;
use crate::dead_letters::DeadLetter;

/// Returns dead letters as a table, one row each.
pub(crate) fn list<'a>(dead_letters: impl IntoIterator<Item = &'a DeadLetter>) -> String {
    let mut rows = table(["id", "when (UTC)", "reason", "field", "type", "BOM", "replays"]);
    for dead_letter in dead_letters {
        let when = dead_letter.dead_at.map(|at| at.format("%Y-%m-%d %H:%M:%S").to_string());
        let or_dash = |text: &Option<String>| safe(text.as_deref().unwrap_or("-"));
        rows.add_row([
            dead_letter.id.clone(),
            or_dash(&when),
            safe(&dead_letter.reason),
            or_dash(&dead_letter.field),
            or_dash(&dead_letter.event_type),
            or_dash(&dead_letter.bom_id),
            dead_letter.replays.to_string(),
        ]);
    }
    rows.to_string()
}
