//! The check for values that `PostgreSQL`'s jsonb cannot store, made before the insert.
//!
//! The input is valid JSON. A search over the raw bytes accepts nearly every document; only a document with something
//! suspicious is read token by token.

/// Maximum nesting of `state` and `payload`, including their own braces.
///
/// `PostgreSQL` itself fails between 6,500 and 20,000 levels, depending on `max_stack_depth`.
pub const MAX_NESTING: usize = 512;

/// Digits that `PostgreSQL`'s numeric stores before the decimal point (`NUMERIC_WEIGHT_MAX` in its source).
const MAX_INTEGER_DIGITS: i64 = 131_072;

/// Digits that `PostgreSQL`'s numeric stores after the decimal point (`NUMERIC_DSCALE_MAX` in its source).
const MAX_SCALE: i64 = 16_383;

/// Smallest exponent that `numeric_in` rejects (`PG_INT32_MAX / 2`), even for zero.
const MAX_EXPONENT: i64 = 1_073_741_823;

/// The reason why a document cannot be stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unstorable {
    /// `\u0000`: `PostgreSQL` text has no NUL.
    Nul,
    /// One half of a UTF-16 surrogate pair.
    LoneSurrogate,
    /// A number outside numeric's range or scale.
    Number,
    /// Nested deeper than [`MAX_NESTING`].
    Nesting,
}

impl Unstorable {
    /// Returns the description for the dead letter, which follows the field's name.
    #[must_use]
    pub(super) const fn detail(self) -> &'static str {
        match self {
            Unstorable::Nul => "has a NUL (\\u0000), which PostgreSQL cannot store",
            Unstorable::LoneSurrogate => "has a lone UTF-16 surrogate, which PostgreSQL cannot store",
            Unstorable::Number => {
                "has a number, or numbers, that PostgreSQL's numeric cannot store, or that are too long when they are read back"
            }
            Unstorable::Nesting => "is nested deeper than 512 levels",
        }
    }
}

/// Checks a valid JSON document for values that jsonb cannot store.
///
/// # Errors
/// The first problem, as a text that follows the document's name.
pub fn storable(json: &str) -> Result<(), &'static str> {
    check(json, usize::MAX).map_err(Unstorable::detail)
}

/// Checks a valid JSON document for values that jsonb cannot store, and for numbers that make its text longer than
/// `max_text_bytes` when it is read back: `1e131071` takes eight bytes here and 131,072 then.
///
/// # Errors
/// The first problem.
pub(super) fn check(json: &str, max_text_bytes: usize) -> Result<(), Unstorable> {
    let max_digits = i64::try_from(max_text_bytes.saturating_sub(json.len())).unwrap_or(i64::MAX);
    if suspicious(json.as_bytes()) { read_tokens(json.as_bytes(), max_digits) } else { Ok(()) }
}

/// Returns whether the document could have something that cannot be stored. Cheap; `false` is always right.
pub(super) fn suspicious(json: &[u8]) -> bool {
    // Escapes, an exponent (a digit before an e), enough bytes for a long number, or enough brackets for deep nesting.
    memchr::memchr(b'\\', json).is_some()
        || json.len() > MAX_SCALE as usize
        || has_exponent(json)
        || json.iter().filter(|&&byte| (byte | 0x20) == b'{').count() > MAX_NESTING
}

/// Returns whether any digit precedes an `e`. Reads the whole document, because the compiler turns a loop without an early
/// exit into vector instructions.
fn has_exponent(json: &[u8]) -> bool {
    let pairs = json.iter().zip(json.iter().skip(1));
    pairs.fold(false, |found, (digit, e)| found | (digit.is_ascii_digit() & ((e | 0x20) == b'e')))
}

fn read_tokens(json: &[u8], max_digits: i64) -> Result<(), Unstorable> {
    let mut depth = 0_usize;
    let mut digits = 0_i64;
    let mut at = 0;
    while at < json.len() {
        match json[at] {
            b'"' => at = read_string(json, at + 1)?,
            b'{' | b'[' => {
                depth += 1;
                if depth > MAX_NESTING {
                    return Err(Unstorable::Nesting);
                }
                at += 1;
            }
            b'}' | b']' => {
                depth -= 1;
                at += 1;
            }
            b'-' | b'0'..=b'9' => {
                let (end, written) = read_number(json, at)?;
                digits += written;
                if digits > max_digits {
                    return Err(Unstorable::Number);
                }
                at = end;
            }
            _ => at += 1,
        }
    }
    Ok(())
}

/// Reads a string from behind its opening quote. Returns the position behind the closing quote.
fn read_string(json: &[u8], mut at: usize) -> Result<usize, Unstorable> {
    while let Some(step) = memchr::memchr2(b'"', b'\\', &json[at..]) {
        at += step;
        if json[at] == b'"' {
            return Ok(at + 1);
        }
        if json[at + 1] != b'u' {
            at += 2;
            continue;
        }
        match code_unit(json, at + 2) {
            0 => return Err(Unstorable::Nul),
            0xD800..=0xDBFF => {
                let pair = json.get(at + 6..at + 8) == Some(b"\\u")
                    && (0xDC00..=0xDFFF).contains(&code_unit(json, at + 8));
                if !pair {
                    return Err(Unstorable::LoneSurrogate);
                }
                at += 12;
            }
            0xDC00..=0xDFFF => return Err(Unstorable::LoneSurrogate),
            _ => at += 6,
        }
    }
    Ok(json.len())
}

/// Returns the value of the four hexadecimal digits of a `\u` escape; the JSON parser has checked them.
fn code_unit(json: &[u8], at: usize) -> u32 {
    let digits = json.get(at..at + 4).and_then(|digits| std::str::from_utf8(digits).ok());
    digits.and_then(|digits| u32::from_str_radix(digits, 16).ok()).unwrap_or(0)
}

/// Reads a number. Returns the position behind it, and the number of its digits without an exponent. Follows `numeric_in` of
/// `PostgreSQL` 15.
fn read_number(json: &[u8], mut at: usize) -> Result<(usize, i64), Unstorable> {
    if json[at] == b'-' {
        at += 1;
    }
    let integer = at;
    at = skip_digits(json, at);
    let integer = &json[integer..at];
    let mut fraction: &[u8] = &[];
    if json.get(at) == Some(&b'.') {
        let start = at + 1;
        at = skip_digits(json, start);
        fraction = &json[start..at];
    }
    let mut exponent = 0_i64;
    if matches!(json.get(at), Some(b'e' | b'E')) {
        let negative = json.get(at + 1) == Some(&b'-');
        let start = at + 1 + usize::from(matches!(json.get(at + 1), Some(b'+' | b'-')));
        at = skip_digits(json, start);
        for digit in &json[start..at] {
            exponent = exponent.saturating_mul(10).saturating_add(i64::from(digit - b'0'));
        }
        if exponent >= MAX_EXPONENT {
            return Err(Unstorable::Number);
        }
        if negative {
            exponent = -exponent;
        }
    }
    let leading_zeros = |digits: &[u8]| digits.iter().take_while(|&&digit| digit == b'0').count() as i64;
    let (whole, part) = (integer.len() as i64, fraction.len() as i64);
    // Position of the first digit other than zero, counted from the decimal point; `None` for zero.
    let integer_digits = if leading_zeros(integer) < whole {
        Some(whole - leading_zeros(integer) + exponent)
    } else if leading_zeros(fraction) < part {
        Some(exponent - leading_zeros(fraction))
    } else {
        None
    };
    if integer_digits.is_some_and(|digits| digits > MAX_INTEGER_DIGITS) || part - exponent > MAX_SCALE {
        return Err(Unstorable::Number);
    }
    Ok((at, integer_digits.unwrap_or(1).max(1) + (part - exponent).max(0)))
}

fn skip_digits(json: &[u8], at: usize) -> usize {
    at + json[at..].iter().take_while(|byte| byte.is_ascii_digit()).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str) -> Result<(), Unstorable> {
        super::check(json, 16 * 1024 * 1024)
    }

    #[test]
    fn plain_documents_are_storable() {
        for json in [
            "{}",
            r#"{"a":"é😀","b":[1,-2.5,1e5,0,true,null]}"#,
            r#"{"a":"\ud83d\ude00 \\u0000 \n\""}"#,
            r#"{"id":"4e4e4e4e-0000-4000-8000-4e4e4e4e4e4e"}"#,
        ] {
            assert_eq!(check(json), Ok(()), "{json}");
        }
    }

    #[test]
    fn nul_and_lone_surrogates_are_found() {
        assert_eq!(check(r#"{"a":"x\u0000"}"#), Err(Unstorable::Nul));
        assert_eq!(check(r#"{"\u0000":1}"#), Err(Unstorable::Nul));
        assert_eq!(check(r#"{"a":"\\\u0000"}"#), Err(Unstorable::Nul));
        assert_eq!(check(r#"{"a":"\ud83d"}"#), Err(Unstorable::LoneSurrogate));
        assert_eq!(check(r#"{"a":"\ude00"}"#), Err(Unstorable::LoneSurrogate));
        assert_eq!(check(r#"{"a":"\ud83d\u0041"}"#), Err(Unstorable::LoneSurrogate));
        assert_eq!(check(r#"{"a":"\ud83dx\ude00"}"#), Err(Unstorable::LoneSurrogate));
    }

    #[test]
    fn numbers_outside_numeric_are_found() {
        for fine in ["1e131071", "0.001e131074", "1e-16383", "0e131072", "1.5e-16382"] {
            assert_eq!(check(fine), Ok(()), "{fine}");
        }
        for bad in [
            "1e131072",
            "-1e131072",
            "10e131071",
            "1e-16384",
            "1.5e-16383",
            "0e-16384",
            "1e99999999999999999999",
        ] {
            assert_eq!(check(bad), Err(Unstorable::Number), "{bad}");
        }
        assert_eq!(check(&format!("[{}1]", "1e131071,".repeat(100))), Ok(()));
        assert_eq!(check(&format!("[{}1]", "1e131071,".repeat(200))), Err(Unstorable::Number));
        assert_eq!(check(&format!("1{}", "0".repeat(131_071))), Ok(()));
        assert_eq!(check(&format!("1{}", "0".repeat(131_072))), Err(Unstorable::Number));
        assert_eq!(check(&format!("0.{}", "1".repeat(16_384))), Err(Unstorable::Number));
    }

    #[test]
    fn nesting_beyond_the_limit_is_found() {
        let nested = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(check(&nested(512)), Ok(()));
        assert_eq!(check(&nested(513)), Err(Unstorable::Nesting));
        let brackets_in_text = format!(r#"{{"a":"{}"}}"#, "[".repeat(2000));
        assert_eq!(check(&brackets_in_text), Ok(()));
    }
}
