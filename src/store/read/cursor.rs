//! Position of a page's end: the keyset of its last event.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::moment;

/// Length before base64, in bytes: microseconds since 1970 (8, big-endian) and the row's id (16). As text these are 32 characters,
/// and each such text is a cursor.
const BYTES: usize = 24;

/// Position in a list of events that is sorted newest first. The events after it are older.
///
/// As text it is safe in a URL. It names a moment and not a tenant: with other claims or another query it is the same moment among
/// other events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cursor {
    pub(super) created_at: DateTime<Utc>,
    pub(super) id: Uuid,
}

/// Error for a text that is not a cursor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("is not a cursor: use the next_cursor of a response unchanged")]
pub struct CursorError;

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
        let created_at = moment::nearest(micros).ok_or(CursorError)?;
        let id = Uuid::from_slice(id).map_err(|_| CursorError)?;
        Ok(Cursor { created_at, id })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::moment::YEARS;
    use super::*;

    proptest! {
        #[test]
        fn a_cursor_survives_its_text(micros in YEARS, id: u128) {
            let cursor = Cursor { created_at: DateTime::from_timestamp_micros(micros).unwrap(), id: Uuid::from_u128(id) };
            let text = cursor.to_string();
            prop_assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
            prop_assert_eq!(text.parse(), Ok(cursor));
        }

        #[test]
        fn every_text_of_that_form_and_no_other_text_is_a_cursor(text in "[A-Za-z0-9_-]{32}", other in "[ -~]{0,40}") {
            prop_assert!(text.parse::<Cursor>().is_ok());
            let formed = other.len() == 32 && other.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
            prop_assert_eq!(other.parse::<Cursor>().is_ok(), formed);
        }
    }

    #[test]
    fn a_time_outside_of_the_years_becomes_the_nearest_time() {
        for (micros, becomes) in [(i64::MIN, YEARS.start()), (i64::MAX, YEARS.end())] {
            let mut bytes = [0; BYTES];
            bytes[..8].copy_from_slice(&micros.to_be_bytes());
            let cursor: Cursor = URL_SAFE_NO_PAD.encode(bytes).parse().unwrap();
            assert_eq!(cursor.created_at.timestamp_micros(), *becomes);
        }
    }
}
