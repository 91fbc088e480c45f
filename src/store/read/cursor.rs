//! Where a page ended: the keyset of its last event.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::event::StoredEvent;

/// The first byte, so that another form can be told from this one.
const VERSION: u8 = 1;

/// That byte, microseconds since 1970 (8 bytes, big-endian) and the id (16).
const BYTES: usize = 25;

/// Seconds of the years 0 to 9999, which both this program and `PostgreSQL` can tell.
const YEARS: std::ops::Range<i64> = -62_167_219_200..253_402_300_800;

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
        let mut bytes = [VERSION; BYTES];
        bytes[1..9].copy_from_slice(&self.created_at.timestamp_micros().to_be_bytes());
        bytes[9..].copy_from_slice(self.id.as_bytes());
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for Cursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| CursorError)?;
        let bytes: [u8; BYTES] = bytes.try_into().map_err(|_| CursorError)?;
        let (micros, id) = (bytes[1..9].try_into(), bytes[9..].try_into());
        let (Ok(micros), Ok(id)) = (micros, id) else { return Err(CursorError) };
        let created_at = DateTime::from_timestamp_micros(i64::from_be_bytes(micros)).ok_or(CursorError)?;
        if bytes[0] != VERSION || !YEARS.contains(&created_at.timestamp()) {
            return Err(CursorError);
        }
        Ok(Cursor { created_at, id: Uuid::from_bytes(id) })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(micros in YEARS.start * 1_000_000..YEARS.end * 1_000_000, id: u128) {
            let cursor = Cursor { created_at: DateTime::from_timestamp_micros(micros).unwrap(), id: Uuid::from_u128(id) };
            let text = cursor.to_string();
            prop_assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
            prop_assert_eq!(text.parse(), Ok(cursor));
        }

        #[test]
        fn nothing_else_is_a_cursor_or_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..40)) {
            let text = URL_SAFE_NO_PAD.encode(&bytes);
            if let Ok(cursor) = text.parse::<Cursor>() {
                prop_assert_eq!(cursor.to_string(), text);
            }
        }
    }

    #[test]
    fn a_time_that_the_database_does_not_know_is_refused() {
        for micros in [i64::MIN, i64::MAX, YEARS.end * 1_000_000, YEARS.start * 1_000_000 - 1] {
            let mut bytes = [VERSION; BYTES];
            bytes[1..9].copy_from_slice(&micros.to_be_bytes());
            assert_eq!(URL_SAFE_NO_PAD.encode(bytes).parse::<Cursor>(), Err(CursorError), "{micros}");
        }
    }
}
