//! Progress bars on stderr, where it is a terminal that can redraw a line.

use indicatif::{ProgressBar, ProgressStyle};

use super::stream::{Stream, can_redraw};

/// Returns a progress bar, hidden where stderr is not a terminal.
pub(crate) fn bar(length: u64, unit: &str) -> ProgressBar {
    bar_of(length, &format!("{{human_pos}}/{{human_len}} {unit}"))
}

/// Returns a progress bar that shows a percentage and a message.
pub(crate) fn share_bar(length: u64) -> ProgressBar {
    bar_of(length, "{percent}% {msg}")
}

fn bar_of(length: u64, text: &str) -> ProgressBar {
    if !can_redraw(Stream::Stderr) {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(&format!("{{bar:40}} {text}, {{eta}} left"));
    ProgressBar::new(length).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Returns a counter for work without a known end. It is hidden where stderr is not a terminal, or where the result is printed to
/// the terminal itself.
pub(crate) fn counter(unit: &str) -> ProgressBar {
    if !can_redraw(Stream::Stderr) || can_redraw(Stream::Stdout) {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template(&format!("{{spinner}} {{human_pos}} {unit}, {{per_sec}}"));
    ProgressBar::no_length().with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Returns a bar for the bytes of an input, whose number may be unknown.
pub(crate) fn bytes(bytes: Option<u64>) -> ProgressBar {
    if !can_redraw(Stream::Stderr) {
        return ProgressBar::hidden();
    }
    let bar = bytes.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    let style = match bytes {
        Some(_) => "{bar:40} {bytes}/{total_bytes}, {eta} left {msg}",
        None => "{spinner} {bytes} read {msg}",
    };
    bar.with_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()))
}
