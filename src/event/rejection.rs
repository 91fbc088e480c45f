//! Rejections: the reasons for which a message is dead-lettered.

use std::borrow::Cow;
use std::fmt;

use crate::named::named_enum;

named_enum! {
    /// A reason of section 5 of the contract, the value of the header [`x-cns-reason`](super::headers::REASON).
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    pub enum Reason {
        /// The body is not one UTF-8 JSON object.
        MalformedJson = "malformed_json",
        /// A required field is absent.
        MissingField = "missing_field",
        /// A field has a value that its rule does not allow.
        InvalidField = "invalid_field",
        /// The payload does not match its type's schema, and `validation.payload` is `reject`.
        PayloadSchema = "payload_schema",
        /// `PostgreSQL` cannot store a value.
        Unstorable = "unstorable",
        /// The body is larger than `worker.max_message_bytes`.
        TooLarge = "too_large",
        /// The database rejected the row.
        DatabaseRejected = "database_rejected",
        /// Another event is stored under the `event_id`.
        Conflict = "conflict",
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The reason for which a message cannot be stored because of its data.
///
/// `detail` is one line for the operator and never quotes the body: it goes to logs and to headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Class of the problem.
    pub reason: Reason,
    /// Field at fault, when the problem is about one field.
    pub field: Option<Cow<'static, str>>,
    /// Description of the problem.
    pub detail: String,
    /// SQLSTATE of the database's answer, when the database rejected the row.
    pub sqlstate: Option<String>,
}

impl Rejection {
    pub(crate) fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Rejection { reason, field: None, detail: detail.into(), sqlstate: None }
    }

    pub(crate) fn of(reason: Reason, field: &'static str, detail: impl fmt::Display) -> Self {
        Rejection {
            reason,
            field: Some(Cow::Borrowed(field)),
            detail: format!("{field} {detail}"),
            sqlstate: None,
        }
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.reason, self.detail)
    }
}

impl std::error::Error for Rejection {}
