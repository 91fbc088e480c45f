//! Position of the end of a page of workflows: the keyset of its last run.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::super::cursor::CursorError;
use super::super::moment;

/// Bytes before the workflow's id: microseconds since 1970 (8, big-endian), the BOM (16) and the tenant (16).
const FIXED_BYTES: usize = 40;

/// Bytes of which base64 makes four characters. NULs fill the last group, so that each text of whole groups is a cursor.
const GROUP_BYTES: usize = 3;

/// Maximum length before base64: a workflow's id has at most 255 characters of 4 bytes.
const MAX_BYTES: usize = 1062;

/// Position in a list of workflows that is sorted by their last activity, newest first. As text it is safe in a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WorkflowCursor {
    pub(super) last_at: DateTime<Utc>,
    pub(super) workflow_id: String,
    pub(super) bom_id: Uuid,
    pub(super) tenant_id: Uuid,
}

impl fmt::Display for WorkflowCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut bytes = self.last_at.timestamp_micros().to_be_bytes().to_vec();
        bytes.extend(self.bom_id.as_bytes());
        bytes.extend(self.tenant_id.as_bytes());
        bytes.extend(self.workflow_id.as_bytes());
        bytes.resize(bytes.len().next_multiple_of(GROUP_BYTES), 0);
        f.write_str(&URL_SAFE_NO_PAD.encode(bytes))
    }
}

impl FromStr for WorkflowCursor {
    type Err = CursorError;

    fn from_str(text: &str) -> Result<Self, CursorError> {
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| CursorError)?;
        if bytes.len() % GROUP_BYTES != 0 || bytes.len() > MAX_BYTES {
            return Err(CursorError);
        }
        let (fixed, workflow_id) = bytes.split_at_checked(FIXED_BYTES).ok_or(CursorError)?;
        let (micros, ids) = fixed.split_at(8);
        let micros = i64::from_be_bytes(micros.try_into().map_err(|_| CursorError)?);
        let id = |bytes| Uuid::from_slice(bytes).map_err(|_| CursorError);
        Ok(WorkflowCursor {
            last_at: moment::nearest(micros).ok_or(CursorError)?,
            bom_id: id(&ids[..16])?,
            tenant_id: id(&ids[16..])?,
            // An id has no NUL; of a cursor that nobody gave out, the rest does not matter.
            workflow_id: String::from_utf8_lossy(workflow_id).replace('\0', ""),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use moment::YEARS;

    proptest! {
        #[test]
        fn a_cursor_survives_its_text(micros in YEARS, bom: u128, tenant: u128, workflow_id in "[^\\x00]{0,255}") {
            let cursor = WorkflowCursor {
                last_at: DateTime::from_timestamp_micros(micros).unwrap(),
                workflow_id,
                bom_id: Uuid::from_u128(bom),
                tenant_id: Uuid::from_u128(tenant),
            };
            prop_assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }

        #[test]
        fn every_text_of_that_form_and_no_other_text_is_a_cursor(text in "([A-Za-z0-9_-]{4}){14,354}", other in "[ -~]{0,60}") {
            prop_assert!(text.parse::<WorkflowCursor>().is_ok());
            let formed = other.len() % 4 == 0 && other.len() >= 56
                && other.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte));
            prop_assert_eq!(other.parse::<WorkflowCursor>().is_ok(), formed);
        }
    }
}
