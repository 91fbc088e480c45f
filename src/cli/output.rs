//! What people read. A reader who has gone away (`| head`) is no error.

use std::io::{ErrorKind, IsTerminal, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use comfy_table::{Cell, Color, ContentArrangement, Table, presets::UTF8_FULL_CONDENSED};
use indicatif::{ProgressBar, ProgressStyle};

/// Something could not be printed: a full disk, say.
static UNPRINTED: AtomicBool = AtomicBool::new(false);

/// The reader has gone away.
static CLOSED: AtomicBool = AtomicBool::new(false);

/// Prints a line to stdout.
pub(super) fn line(text: &str) {
    let Err(error) = writeln!(std::io::stdout(), "{text}") else { return };
    if error.kind() == ErrorKind::BrokenPipe {
        CLOSED.store(true, Ordering::Relaxed);
    } else if !UNPRINTED.swap(true, Ordering::Relaxed) {
        complain(&format!("cannot print: {error}"));
    }
}

/// Whether nobody reads any more: what would go on printing may stop.
pub(super) fn closed() -> bool {
    CLOSED.load(Ordering::Relaxed) || failed()
}

/// Whether something could not be printed: what was asked for has not been done then.
pub(super) fn failed() -> bool {
    UNPRINTED.load(Ordering::Relaxed)
}

/// Prints an error to stderr.
pub(super) fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "cns-events: {text}");
}

/// Prints to stderr what is good to know, and no part of the answer.
pub(super) fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// A table that fits the terminal, or as wide as it wants to be where there is none.
pub(super) fn table<const N: usize>(header: [&str; N]) -> Table {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED).set_header(header);
    if std::io::stdout().is_terminal() {
        table.set_content_arrangement(ContentArrangement::Dynamic);
    }
    table
}

/// Text that somebody else chose, without what a terminal would act on.
pub(super) fn safe(text: &str) -> String {
    let acts = |character: char| character.is_control() || misleads(character);
    text.chars().map(|character| if acts(character) { '\u{fffd}' } else { character }).collect()
}

/// Whether a character turns the direction of writing, or ends a line without being a control character.
fn misleads(character: char) -> bool {
    matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Asks on the terminal before something is gone for good.
pub(super) fn confirmed(question: &str) -> std::io::Result<bool> {
    write!(std::io::stderr(), "{question} [y/N] ")?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// A bar on a terminal, nothing elsewhere.
pub(super) fn bar(length: u64, unit: &str) -> ProgressBar {
    bar_of(length, &format!("{{human_pos}}/{{human_len}} {unit}"))
}

/// A bar of which only the share and a message tell something.
pub(super) fn share_bar(length: u64) -> ProgressBar {
    bar_of(length, "{percent}% {msg}")
}

fn bar_of(length: u64, tells: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(&format!("{{bar:40}} {tells}, {{eta}} left"));
    ProgressBar::new(length).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Counts on a terminal what has no known end; nothing elsewhere, and nothing where the answer is on the terminal itself.
pub(super) fn counter(unit: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() || std::io::stdout().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(&format!("{{spinner}} {{human_pos}} {unit}, {{per_sec}}"));
    ProgressBar::no_length().with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// A cell in a colour, on a terminal.
pub(super) fn coloured(text: &str, colour: Color) -> Cell {
    let cell = Cell::new(text);
    if std::io::stdout().is_terminal() { cell.fg(colour) } else { cell }
}

/// Prints a value as JSON.
pub(super) fn json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    line(&printable(&serde_json::to_string_pretty(value)?));
    Ok(())
}

/// JSON without the characters that it may hold as they are, and a terminal would act on (DEL, C1, and what misleads).
pub(super) fn printable(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for character in json.chars() {
        match character {
            character if matches!(character, '\u{7f}'..='\u{9f}') || misleads(character) => {
                text.push_str(&format!("\\u{:04x}", u32::from(character)))
            }
            _ => text.push(character),
        }
    }
    text
}
