//! Text of others on a terminal, which would act on some of its characters.

/// Replaces the characters of foreign text that a terminal would act on.
pub(crate) fn safe(text: &str) -> String {
    let replaced = |character: char| character.is_control() || misleads(character);
    text.chars().map(|character| if replaced(character) { '\u{fffd}' } else { character }).collect()
}

/// Replaces such characters in each line of a text.
pub(crate) fn safe_lines(text: &str) -> String {
    text.lines().map(safe).collect::<Vec<_>>().join("\n")
}

/// Returns whether a character changes the direction of text, or ends a line without being a control character.
fn misleads(character: char) -> bool {
    matches!(character, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Escapes the characters of JSON text that JSON allows and a terminal would act on: DEL, C1, and those that change the direction
/// of text.
pub(crate) fn printable(json: &str) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_act_on_is_replaced() {
        assert_eq!(safe("a\x1b[31m\u{202e}b\n"), "a\u{fffd}[31m\u{fffd}b\u{fffd}");
        assert_eq!(safe_lines("a\n\x07b"), "a\n\u{fffd}b");
        assert_eq!(printable("\"\u{9b}x\u{2066}\""), "\"\\u009bx\\u2066\"");
    }
}
