//! Windows-1252 that makes sense. Each byte has a meaning in it, so that text in any other encoding can be read as if it were that:
//! `Würth` of a Macintosh as `WŸrth`, `25°C` of DOS as `25øC`.

/// Signs that stand anywhere.
const SIGNS: &str = "€…‰‘’“”•–—™©®°±µ·«»×÷¥£\u{a0}\u{ad}";

/// Letters that stand alone: diameters, a unit, and a word of French.
const ALONE: &str = "ØøÅà";

/// Returns the place of the first byte that is not a plausible character of windows-1252.
pub(super) fn first_implausible(bytes: &[u8]) -> Option<usize> {
    let character = |at: usize| bytes.get(at).map(|byte| character_of(*byte));
    (0..bytes.len()).filter(|at| !bytes[*at].is_ascii()).find(|at| {
        let before = at.checked_sub(1).and_then(character);
        !is_plausible(before, character_of(bytes[*at]), character(at + 1))
    })
}

fn character_of(byte: u8) -> char {
    let (text, _) = encoding_rs::WINDOWS_1252.decode_without_bom_handling(std::slice::from_ref(&byte));
    text.chars().next().unwrap_or(char::REPLACEMENT_CHARACTER)
}

fn is_plausible(before: Option<char>, character: char, after: Option<char>) -> bool {
    let is_letter = |place: Option<char>| place.is_some_and(char::is_alphabetic);
    let is_digit = |place: Option<char>| place.is_some_and(|found| found.is_ascii_digit());
    let is_lower = |place: Option<char>| place.is_some_and(char::is_lowercase);
    match character {
        _ if SIGNS.contains(character) => true,
        '²' | '³' | '¹' => is_letter(before) || is_digit(before) || before == Some(')'),
        '¼' | '½' | '¾' => !is_letter(before),
        '§' | '¿' | '¡' => !is_letter(before) && !is_digit(before),
        // Windows has these beyond Latin-1, and other encodings have common letters in their place.
        _ if !('\u{c0}'..='\u{ff}').contains(&character) => false,
        _ if is_digit(before) => false,
        _ if ALONE.contains(character) => true,
        // A capital letter does not follow a small one, and no letter stands alone.
        _ if character.is_uppercase() => !is_lower(before) && (is_letter(before) || is_letter(after)),
        _ => is_letter(before) || is_letter(after),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_western(text: &str) -> bool {
        let (bytes, _, unmappable) = encoding_rs::WINDOWS_1252.encode(text);
        assert!(!unmappable, "{text}");
        first_implausible(&bytes).is_none()
    }

    #[test]
    fn words_and_values_of_western_europe_are_plausible() {
        for text in [
            "Würth Elektronik",
            "µ-SD",
            "10µF ±5 %",
            "25 °C",
            "Größe",
            "GRÖSSE",
            "Überspannung",
            "Réf. fabricant",
            "Côté",
            "NIÑO",
            "señal",
            "mm²",
            "Ø3,2 mm",
            "½ W",
            "Molex® – “SMD”",
            "I²C",
            "naïve",
            "Élément",
            "à droite",
        ] {
            assert!(is_western(text), "{text}");
        }
    }

    #[test]
    fn other_encodings_read_as_western_are_not() {
        for text in [
            "WŸrth",
            "Kšln",
            "Gro§e",
            "25øC",
            "10æF",
            "Fabricant: ScŽnario",
            "ÌùÆ¬µç×è",
            "Ã¼ber",
            "Molex¨",
            "10k½",
        ] {
            assert!(!is_western(text), "{text}");
        }
    }
}
