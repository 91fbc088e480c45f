//! Small texts: durations, and texts that are cut.

/// Writes milliseconds as people do.
#[must_use]
pub fn duration(milliseconds: f64) -> String {
    match milliseconds {
        short if short < 1000.0 => format!("{short:.0} ms"),
        short if short < 60_000.0 => format!("{:.1} s", short / 1000.0),
        long => {
            let seconds = std::time::Duration::try_from_secs_f64((long / 1000.0).round()).unwrap_or_default();
            humantime::format_duration(seconds).to_string()
        }
    }
}

/// Cuts a text to a number of characters, and marks the cut.
pub(super) fn shortened(text: &str, max_chars: usize) -> String {
    match text.char_indices().nth(max_chars) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

/// Cuts a text to a number of characters.
pub(super) fn cut(text: &str, max_chars: usize) -> String {
    text.chars().take(max_chars).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_read_well() {
        assert_eq!(duration(12.4), "12 ms");
        assert_eq!(duration(4_200.0), "4.2 s");
        assert_eq!(duration(3_723_000.0), "1h 2m 3s");
    }

    #[test]
    fn a_text_is_cut_between_characters() {
        assert_eq!(shortened("äöü", 2), "äö…");
        assert_eq!(shortened("äöü", 3), "äöü");
    }
}
