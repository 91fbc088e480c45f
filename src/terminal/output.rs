//! Output for people. A closed pipe (`| head`) is not an error.

use std::io::{ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};

pub(crate) use super::table::table;
pub(crate) use super::text::{printable, safe, safe_lines};

/// Set where a line could not be printed, for example on a full disk.
static UNPRINTED: AtomicBool = AtomicBool::new(false);

/// Set where the reader of stdout has ended.
static CLOSED: AtomicBool = AtomicBool::new(false);

/// Prints a line to stdout.
pub(crate) fn line(text: &str) {
    let Err(error) = writeln!(std::io::stdout(), "{text}") else { return };
    if error.kind() == ErrorKind::BrokenPipe {
        CLOSED.store(true, Ordering::Relaxed);
    } else if !UNPRINTED.swap(true, Ordering::Relaxed) {
        self::error(&format!("cannot print: {error}"));
    }
}

/// Returns whether further output is useless, because its reader has ended or it cannot be printed.
pub(crate) fn closed() -> bool {
    CLOSED.load(Ordering::Relaxed) || failed()
}

/// Returns whether a line could not be printed: then the command has not done its work.
pub(crate) fn failed() -> bool {
    UNPRINTED.load(Ordering::Relaxed)
}

/// Prints an error to stderr.
pub(crate) fn error(text: &str) {
    let _ = writeln!(std::io::stderr(), "cns-events: {text}");
}

/// Prints a note to stderr, which is not part of the result.
pub(crate) fn note(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// Asks for a confirmation on the terminal.
pub(crate) fn confirmed(question: &str) -> std::io::Result<bool> {
    write!(std::io::stderr(), "{question} [y/N] ")?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Prints a value as JSON.
pub(crate) fn json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    line(&printable(&serde_json::to_string_pretty(value)?));
    Ok(())
}
