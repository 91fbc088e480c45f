//! Output for people. A closed pipe (`| head`) is not an error.

use std::io::{ErrorKind, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use comfy_table::{Cell, Color, ContentArrangement, Table, presets::UTF8_FULL_CONDENSED};

pub(super) use crate::terminal::text::{printable, safe, safe_lines};
use crate::terminal::{Stream, has_colors};

/// Set where a line could not be printed, for example on a full disk.
static UNPRINTED: AtomicBool = AtomicBool::new(false);

/// Set where the reader of stdout has ended.
static CLOSED: AtomicBool = AtomicBool::new(false);

/// Prints a line to stdout.
pub(super) fn line(text: &str) {
    let Err(error) = writeln!(std::io::stdout(), "{text}") else { return };
    if error.kind() == ErrorKind::BrokenPipe {
        CLOSED.store(true, Ordering::Relaxed);
    } else if !UNPRINTED.swap(true, Ordering::Relaxed) {
        self::error(&format!("cannot print: {error}"));
    }
}

/// Returns whether further output is useless, because its reader has ended or it cannot be printed.
pub(super) fn closed() -> bool {
    CLOSED.load(Ordering::Relaxed) || failed()
}

/// Returns whether a line could not be printed: then the command has not done its work.
pub(super) fn failed() -> bool {
    UNPRINTED.load(Ordering::Relaxed)
}

/// Prints an error to stderr.
pub(super) fn error(text: &str) {
    let _ = writeln!(std::io::stderr(), "cns-events: {text}");
}

/// Prints a note to stderr, which is not part of the result.
pub(super) fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Returns an empty table that fits the terminal; without a terminal its width is not limited.
pub(super) fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(header);
    if std::io::stdout().is_terminal() {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    if has_colors(Stream::Stdout) {
        table.enforce_styling();
    }
    table
}

/// Asks for a confirmation on the terminal.
pub(super) fn confirmed(question: &str) -> std::io::Result<bool> {
    write!(std::io::stderr(), "{question} [y/N] ")?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Returns a cell, in color where the output has colors.
pub(super) fn colored(text: &str, color: Color) -> Cell {
    let cell = Cell::new(text);
    if has_colors(Stream::Stdout) { cell.fg(color) } else { cell }
}

/// Prints a value as JSON.
pub(super) fn json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    line(&printable(&serde_json::to_string_pretty(value)?));
    Ok(())
}
