//! Why an event is dead-lettered.

use std::borrow::Cow;
use std::fmt;

/// The reasons of the contract's section 5, as they stand in `x-cns-reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reason {
    /// The body is not one UTF-8 JSON object.
    MalformedJson,
    /// A required field is absent.
    MissingField,
    /// A field holds what it must not.
    InvalidField,
    /// The payload does not match its type's schema, and `validation.payload` is `reject`.
    PayloadSchema,
    /// `PostgreSQL` cannot hold a value.
    Unstorable,
    /// The body is larger than `worker.max_message_bytes`.
    TooLarge,
    /// The database refused the row.
    DatabaseRejected,
}

impl Reason {
    /// Every reason, in the contract's order.
    pub const ALL: [Reason; 7] = [
        Reason::MalformedJson,
        Reason::MissingField,
        Reason::InvalidField,
        Reason::PayloadSchema,
        Reason::Unstorable,
        Reason::TooLarge,
        Reason::DatabaseRejected,
    ];

    /// As it stands in the header and in the metric's label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Reason::MalformedJson => "malformed_json",
            Reason::MissingField => "missing_field",
            Reason::InvalidField => "invalid_field",
            Reason::PayloadSchema => "payload_schema",
            Reason::Unstorable => "unstorable",
            Reason::TooLarge => "too_large",
            Reason::DatabaseRejected => "database_rejected",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An event that cannot be stored because of its data.
///
/// `detail` is one line for a person and never quotes the body: it goes to logs and to headers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The class.
    pub reason: Reason,
    /// The field at fault, where one is.
    pub field: Option<Cow<'static, str>>,
    /// What is wrong, in words.
    pub detail: String,
    /// What the database answered, where it was asked.
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
