//! Output for people. A closed pipe (`| head`) is not an error.

use std::io::{ErrorKind, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use comfy_table::{Cell, Color, ContentArrangement, Table, presets::UTF8_FULL_CONDENSED};
use indicatif::{ProgressBar, ProgressStyle};

pub(super) use crate::terminal::{printable, safe, safe_lines};

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
    table
}

/// Asks for a confirmation on the terminal.
pub(super) fn confirmed(question: &str) -> std::io::Result<bool> {
    write!(std::io::stderr(), "{question} [y/N] ")?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Returns a progress bar, hidden where stderr is not a terminal.
pub(super) fn bar(length: u64, unit: &str) -> ProgressBar {
    bar_of(length, &format!("{{human_pos}}/{{human_len}} {unit}"))
}

/// Returns a progress bar that shows a percentage and a message.
pub(super) fn share_bar(length: u64) -> ProgressBar {
    bar_of(length, "{percent}% {msg}")
}

fn bar_of(length: u64, text: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(&format!("{{bar:40}} {text}, {{eta}} left"));
    ProgressBar::new(length).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Returns a counter for work without a known end. It is hidden where stderr is not a terminal, or where the result is printed to
/// the terminal itself.
pub(super) fn counter(unit: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() || std::io::stdout().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(&format!("{{spinner}} {{human_pos}} {unit}, {{per_sec}}"));
    ProgressBar::no_length().with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Returns a cell, in color on a terminal.
pub(super) fn colored(text: &str, color: Color) -> Cell {
    let cell = Cell::new(text);
    if std::io::stdout().is_terminal() { cell.fg(color) } else { cell }
}

/// Prints a value as JSON.
pub(super) fn json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    line(&printable(&serde_json::to_string_pretty(value)?));
    Ok(())
}
