//! Characters that are pasted or saved with a value and are not a part of it.

/// Quotes, each with the one that closes it.
const QUOTES: [(char, char); 5] = [('"', '"'), ('\'', '\''), ('`', '`'), ('“', '”'), ('‘', '’')];

/// Byte order mark.
const BYTE_ORDER_MARK: char = '\u{feff}';

/// Returns the problem with the first or last character of a value, as the end of a sentence whose subject is the value.
pub(crate) fn stray(text: &str) -> Option<&'static str> {
    let mut characters = text.chars();
    let first = characters.next()?;
    let last = characters.next_back().unwrap_or(first);
    if first == BYTE_ORDER_MARK {
        return Some("begins with a byte order mark; save it as UTF-8 without one");
    }
    if is_invisible(first) {
        return Some("begins with an invisible character; type its beginning anew");
    }
    if is_invisible(last) {
        return Some("ends with an invisible character, such as a byte order mark; type its end anew");
    }
    if first.is_whitespace() || first.is_control() {
        return Some("begins with a blank or a line end; remove it");
    }
    if last.is_whitespace() || last.is_control() {
        return Some("ends with a blank or a line end; remove it");
    }
    let quoted = text.chars().nth(1).is_some() && QUOTES.contains(&(first, last));
    quoted.then_some("is in quotes, which would be a part of it; write it without them")
}

/// Returns whether a character has no width: pasted texts contain such characters.
pub(crate) fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2064}' | BYTE_ORDER_MARK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_stray_character_is_named() {
        for (text, named) in [
            ("\u{feff}x", "byte order mark"),
            ("x\u{feff}", "byte order mark"),
            ("\u{200b}x", "begins with an invisible"),
            ("x\u{200b}", "ends with an invisible"),
            (" x", "begins with a blank"),
            ("x\t", "ends with a blank"),
            ("x\r\n", "ends with a blank or a line end"),
            ("x\u{a0}", "ends with a blank"),
            ("\"x\"", "in quotes"),
            ("'x'", "in quotes"),
            ("`x`", "in quotes"),
            ("“x”", "in quotes"),
            ("\"\"", "in quotes"),
        ] {
            assert!(
                stray(text).is_some_and(|problem| problem.contains(named)),
                "{text:?}: {:?}",
                stray(text)
            );
        }
    }

    #[test]
    fn other_values_have_none() {
        for text in ["", "x", "\"", "it's", "a 'b'", "'a' b", "é", "a \"b\" c"] {
            assert_eq!(stray(text), None, "{text:?}");
        }
    }
}
