//! Tables on stdout.

use comfy_table::{Cell, Color, ContentArrangement, Table, presets::UTF8_FULL_CONDENSED};

use super::stream::{Stream, has_colors};

/// Width of sentences where the output is piped and nothing else is said.
const PIPED_COLUMNS: u16 = 100;

/// Returns an empty table that fits the terminal; without a terminal its width is not limited.
pub(crate) fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(header);
    if Stream::Stdout.is_terminal() {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    if has_colors(Stream::Stdout) {
        table.enforce_styling();
    }
    table
}

/// Returns an empty table of sentences, which are wrapped also where the output is piped: to the width of the variable `COLUMNS`, else
/// to 100 columns.
pub(crate) fn prose_table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = table(header);
    if !Stream::Stdout.is_terminal() {
        let columns = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
        table
            .set_content_arrangement(ContentArrangement::Dynamic)
            .set_width(columns.unwrap_or(PIPED_COLUMNS));
    }
    table
}

/// Returns a cell, in color where the output has colors.
pub(crate) fn colored(text: &str, color: Color) -> Cell {
    let cell = Cell::new(text);
    if has_colors(Stream::Stdout) { cell.fg(color) } else { cell }
}
