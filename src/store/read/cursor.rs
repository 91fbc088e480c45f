//! Where a page ended: the keyset of its last event.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::event::StoredEvent;

/// Microseconds since 1970 (8 bytes, big-endian) and the id (16): 32 characters, and each such text is a cursor.
const BYTES: usize = 24;

/// The microseconds of the years 0 to 9999, which both this program and `PostgreSQL` can tell. What is before or behind all
/// events may as well be at their end.
pub(super) const YEARS: std::ops::RangeInclusive<i64> = -62_167_219_200_000_000..=253_402_300_799_999_999;

/// A place in a list of events that is sorted newest first: what comes after it is older.
///
/// As text it is safe in a URL. It says where, not whose: under another tenant's claims, or with another query, it is the
/// same moment in other events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub(super) created_at: DateTime<Utc>,
    pub(super) id: Uuid,
}

/// A text that is no cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is no cursor: use the next_cursor of an answer as it is")]
pub struct CursorError;

impl Cursor {
    /// Behind an event.
    #[must_use]
    pub fn after(event: &StoredEvent) -> Self {
        Cursor { created_at: event.created_at, id: event.id }
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = [0; BYTES];
        bytes[..8].copy_from_slice(&self.created_at.timestamp_micros().to_be_bytes());
        bytes[8..].copy_from_slice(self.id.as_bytes());
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| CursorError)?;
        let (micros, id) = bytes.split_at_checked(8).ok_or(CursorError)?;
        let micros = i64::from_be_bytes(micros.try_into().map_err(|_| CursorError)?);
        let micros = micros.clamp(*YEARS.start(), *YEARS.end());
        let created_at = DateTime::from_timestamp_micros(micros).ok_or(CursorError)?;
        let id = Uuid::from_slice(id).map_err(|_| CursorError)?;
        Ok(Cursor { created_at, id })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(micros in YEARS, id: u128) {
            let cursor = Cursor { created_at: DateTime::from_timestamp_micros(micros).unwrap(), id: Uuid::from_u128(id) };
            let text = cursor.to_string();
            prop_assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
            prop_assert_eq!(text.parse(), Ok(cursor));
        }

        #[test]
        fn every_text_of_that_form_is_a_cursor_and_no_other(text in "[A-Za-z0-9_-]{32}", other in "[ -~]{0,40}") {
            prop_assert!(text.parse::<Cursor>().is_ok());
            let formed = other.len() == 32 && other.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
            prop_assert_eq!(other.parse::<Cursor>().is_ok(), formed);
        }
    }

    #[test]
    fn a_time_that_the_database_does_not_know_is_the_end_of_those_it_knows() {
        for (micros, becomes) in [(i64::MIN, YEARS.start()), (i64::MAX, YEARS.end())] {
            let mut bytes = [0; BYTES];
            bytes[..8].copy_from_slice(&micros.to_be_bytes());
            let cursor: Cursor = URL_SAFE_NO_PAD.encode(bytes).parse().unwrap();
            assert_eq!(cursor.created_at.timestamp_micros(), *becomes);
        }
    }
}
