//! One value of a message as text, UUID, object or time, with the rejection that names its field.

use std::borrow::Cow;
use std::fmt;

use chrono::{DateTime, Utc};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::fields::Field;
use super::rejection::{Reason, Rejection};
use super::storable::{self, Unstorable};

pub(super) fn missing(field: Field, reason: &str) -> Rejection {
    Rejection::of(Reason::MissingField, field.name(), format_args!("is absent, {reason}"))
}

pub(super) fn invalid(field: &'static str, problem: impl fmt::Display) -> Rejection {
    Rejection::of(Reason::InvalidField, field, problem)
}

fn unstorable(field: &'static str, problem: Unstorable) -> Rejection {
    Rejection::of(Reason::Unstorable, field, problem.detail())
}

/// Returns the text of a JSON string, borrowed unless it has escapes.
pub(super) fn text<'a>(field: Field, value: Option<&'a RawValue>) -> Result<Option<Cow<'a, str>>, Rejection> {
    let Some(raw) = value.map(RawValue::get) else { return Ok(None) };
    let Some(inner) = raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return Err(invalid(field.name(), "is not a string"));
    };
    if !inner.contains('\\') {
        return Ok(Some(Cow::Borrowed(inner)));
    }
    storable::check(raw, usize::MAX).map_err(|problem| unstorable(field.name(), problem))?;
    let unescaped = serde_json::from_str::<String>(raw)
        .map_err(|_| invalid(field.name(), "is not a string that can be read"))?;
    Ok(Some(Cow::Owned(unescaped)))
}

/// Returns the text of an AMQP property that is stored.
pub(super) fn property<'a>(name: &'static str, value: &'a str) -> Result<Cow<'a, str>, Rejection> {
    if value.contains('\0') { Err(unstorable(name, Unstorable::Nul)) } else { Ok(Cow::Borrowed(value)) }
}

/// Checks the length of a text, in characters.
pub(super) fn limited<'a>(
    field: &'static str,
    value: Cow<'a, str>,
    min_chars: usize,
    max_chars: usize,
) -> Result<Cow<'a, str>, Rejection> {
    // A text never has fewer bytes than characters, so that the characters of a short text need not be counted.
    let chars = if value.len() <= max_chars { value.len() } else { value.chars().count() };
    if chars < min_chars {
        Err(invalid(field, "is empty"))
    } else if chars > max_chars {
        Err(invalid(field, format_args!("has {chars} characters, more than the limit of {max_chars}")))
    } else {
        Ok(value)
    }
}

pub(super) fn uuid(field: Field, value: Option<&RawValue>) -> Result<Option<Uuid>, Rejection> {
    match text(field, value)? {
        None => Ok(None),
        Some(text) => Uuid::try_parse(&text).map(Some).map_err(|_| invalid(field.name(), "is not a UUID")),
    }
}

/// Returns a JSON object as it is in the body; an absent one is `{}`. Its text may have `max_text_bytes` when it is read back.
pub(super) fn object<'a>(
    field: Field,
    value: Option<&'a RawValue>,
    max_text_bytes: usize,
) -> Result<Cow<'a, RawValue>, Rejection> {
    let Some(raw) = value else { return Ok(Cow::Borrowed(empty_object())) };
    if !raw.get().starts_with('{') {
        return Err(invalid(field.name(), "is not an object"));
    }
    storable::check(raw.get(), max_text_bytes).map_err(|problem| unstorable(field.name(), problem))?;
    Ok(Cow::Borrowed(raw))
}

/// Returns `{}`: the `state` or `payload` of an event that has none.
#[must_use]
pub fn empty_object() -> &'static RawValue {
    #[allow(clippy::expect_used, clippy::missing_panics_doc)] // "{}" is JSON
    serde_json::from_str("{}").expect("`{}` is JSON")
}

/// Returns the time of a JSON string (RFC 3339).
pub(super) fn time(field: Field, value: Option<&RawValue>) -> Result<Option<DateTime<Utc>>, Rejection> {
    let Some(text) = text(field, value)? else { return Ok(None) };
    DateTime::parse_from_rfc3339(&text)
        .map(|at| Some(at.with_timezone(&Utc)))
        .map_err(|_| invalid(field.name(), "is not an RFC 3339 time with an offset"))
}

/// Last second that RFC 3339 can express: the end of the year 9999.
const MAX_SECONDS: u64 = 253_402_300_799;

/// Returns the time of an AMQP timestamp, which counts seconds since 1970, and whether it was understood in another unit: a number
/// beyond the year 9999 is one of milliseconds, microseconds or nanoseconds. `None` for 0, which clients send for no time.
pub(super) fn timestamp(number: u64) -> Result<Option<(DateTime<Utc>, bool)>, Rejection> {
    if number == 0 {
        return Ok(None);
    }
    const UNITS: [(u64, u64); 4] =
        [(1, 1_000_000_000), (1_000, 1_000_000), (1_000_000, 1_000), (1_000_000_000, 1)];
    // A negative number is one above the maximum here.
    let units = if i64::try_from(number).is_ok() { &UNITS[..] } else { &[] };
    for (divisor, nanoseconds) in units {
        let (seconds, rest) = (number / divisor, number % divisor);
        if seconds <= MAX_SECONDS
            && let (Ok(seconds), Ok(nanos)) = (i64::try_from(seconds), u32::try_from(rest * nanoseconds))
            && let Some(time) = DateTime::from_timestamp(seconds, nanos)
        {
            return Ok(Some((time, *divisor > 1)));
        }
    }
    Err(invalid("timestamp", "is out of range (seconds since 1970)"))
}
