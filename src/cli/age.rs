//! Ages on the command line.

use std::time::Duration;

/// Parses an age, such as 90s, 2h, 30days or 1y.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    if !text.is_empty() && text.chars().all(|digit| digit.is_ascii_digit()) {
        return Err(format!("has no unit: use {text}d for days, {text}h for hours or {text}s for seconds"));
    }
    humantime::parse_duration(text).map_err(|error| error.to_string())
}
