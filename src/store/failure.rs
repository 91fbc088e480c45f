//! Classes of failed statements by SQLSTATE (section 5 of the contract).

use std::fmt;
use std::time::Duration;

use tokio_postgres::error::DbError;

use super::unreached::{ConnectError, describe};

/// Reason why a statement is held and retried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// A standby, or a server that was set to read-only.
    ReadOnly,
    /// A serialization failure.
    Serialization,
    /// A deadlock.
    Deadlock,
    /// A statement timeout, or a cancelled statement.
    Timeout,
    /// The connection failed.
    Connection,
    /// The session cannot be used any more.
    Session,
    /// An operator has to fix it: a login, a privilege, a missing object.
    Operator,
    /// The server rolled the transaction back.
    Rollback,
    /// The server is out of disk, memory or connections.
    Resources,
    /// The server, or an object, cannot be used at the moment.
    Unavailable,
    /// The server found a fault of its own, such as a corrupt index.
    Internal,
}

impl Hold {
    /// Returns whether it may end without an operator.
    #[must_use]
    pub const fn passes(self) -> bool {
        !matches!(self, Hold::ReadOnly | Hold::Operator | Hold::Internal)
    }

    /// Returns the value of the metric's label `reason`.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Hold::ReadOnly => "read_only",
            Hold::Serialization => "serialization",
            Hold::Deadlock => "deadlock",
            Hold::Timeout => "timeout",
            Hold::Connection => "connection",
            Hold::Session => "session",
            Hold::Operator => "operator",
            Hold::Rollback => "rollback",
            Hold::Resources => "resources",
            Hold::Unavailable => "unavailable",
            Hold::Internal => "internal",
        }
    }
}

/// Class of a failure, which decides what the worker does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureClass {
    /// Caused by the row: it is dead-lettered.
    Data,
    /// Not caused by the row: the batch is held and retried.
    Held(Hold),
    /// Not listed: held, unless one row alone fails while a probe succeeds.
    Unknown,
}

/// Failure of a statement.
#[derive(Clone, Debug)]
pub struct StoreFailure {
    /// Class of the failure.
    pub class: FailureClass,
    /// SQLSTATE, five characters, where the server answered.
    pub sqlstate: Option<String>,
    /// First line of the server's primary message. It may quote a value of the row.
    pub message: String,
    /// Constraint or column that the row violates, where the server names one.
    pub object: Option<String>,
    /// Set where the server's answer is about a row: a constraint, a policy, a trigger or another function.
    pub about_row: bool,
    /// First line of the server's hint.
    pub hint: Option<String>,
}

impl StoreFailure {
    pub(crate) fn timeout(limit: Duration) -> Self {
        StoreFailure {
            class: FailureClass::Held(Hold::Timeout),
            sqlstate: None,
            message: format!("no answer within {} ms", limit.as_millis()),
            object: None,
            about_row: false,
            hint: None,
        }
    }

    /// Returns the failure for an answer that no server gives.
    pub(super) fn unexpected(what: &str) -> Self {
        StoreFailure {
            class: FailureClass::Unknown,
            sqlstate: None,
            message: format!("unexpected: {what}"),
            object: None,
            about_row: false,
            hint: None,
        }
    }

    /// Returns the failure for a position that is asked of a standby, which does not know which transactions are running.
    pub(super) fn standby() -> Self {
        StoreFailure {
            class: FailureClass::Held(Hold::ReadOnly),
            sqlstate: None,
            message: "the database is a standby, which has no positions in the journal: ask the primary"
                .to_owned(),
            object: None,
            about_row: false,
            hint: None,
        }
    }

    /// Returns the failure for an event whose text cannot be written.
    pub(crate) fn unserialized(error: &serde_json::Error) -> Self {
        StoreFailure::unexpected(&error.to_string())
    }

    /// Returns the failure for a stored row that cannot be read.
    pub(super) fn unreadable(what: &str) -> Self {
        StoreFailure {
            class: FailureClass::Data,
            sqlstate: None,
            message: what.to_owned(),
            object: None,
            about_row: false,
            hint: None,
        }
    }

    /// Returns a description without anything that the server may have quoted from a row.
    #[must_use]
    pub fn summary(&self) -> String {
        match (&self.sqlstate, self.class) {
            (Some(code), FailureClass::Data | FailureClass::Unknown) => match &self.object {
                Some(object) => format!("SQLSTATE {code} ({object})"),
                None => format!("SQLSTATE {code}"),
            },
            (Some(code), FailureClass::Held(_)) => format!("{} (SQLSTATE {code})", self.message),
            (None, _) => self.message.clone(),
        }
    }
}

impl fmt::Display for StoreFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.summary())
    }
}

impl std::error::Error for StoreFailure {}

impl From<tokio_postgres::Error> for StoreFailure {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(answer) => StoreFailure {
                class: classify(answer.code().code()),
                sqlstate: Some(answer.code().code().to_owned()),
                message: answer.message().lines().next().unwrap_or_default().to_owned(),
                object: object(answer),
                about_row: is_about_a_row(answer),
                hint: answer.hint().and_then(|hint| hint.lines().next()).map(str::to_owned),
            },
            None => StoreFailure {
                class: FailureClass::Held(Hold::Connection),
                sqlstate: None,
                message: describe(&error),
                object: None,
                about_row: false,
                hint: None,
            },
        }
    }
}

/// Returns the constraint or column that an answer names.
fn object(answer: &DbError) -> Option<String> {
    let constraint = answer.constraint().map(|name| format!("constraint {name}"));
    constraint.or_else(|| answer.column().map(|name| format!("column {name}")))
}

/// Function of the server that checks the policies of a row (`PostgreSQL`, execMain.c).
const POLICY_CHECK: &str = "ExecWithCheckOptions";

/// Parts of the context of an error in a trigger or another function, in every language of the server: the function's language.
const FUNCTION_CONTEXTS: [&str; 3] = ["PL/", "SQL", "function"];

/// Returns whether an answer is about a row.
fn is_about_a_row(answer: &DbError) -> bool {
    answer.constraint().is_some()
        || answer.routine() == Some(POLICY_CHECK)
        || answer.where_().is_some_and(|context| FUNCTION_CONTEXTS.iter().any(|part| context.contains(part)))
}

impl From<ConnectError> for StoreFailure {
    fn from(error: ConnectError) -> Self {
        let message = error.to_string();
        match error {
            // The answer of a server, such as a wrong password, has its class; the message names the server too.
            ConnectError::Unreached { cause: Some(cause), .. } => {
                StoreFailure { message, ..StoreFailure::from(cause) }
            }
            ConnectError::Unreached { cause: None, .. } | ConnectError::Setup(_) => StoreFailure {
                class: FailureClass::Held(Hold::Connection),
                sqlstate: None,
                message,
                object: None,
                about_row: false,
                hint: None,
            },
        }
    }
}

/// SQLSTATEs (`PostgreSQL` documentation, appendix A): a code or the two characters of a class, its class here, and the reason. A
/// code comes before its class. A code that is not listed is unknown.
pub const SQLSTATES: [(&str, FailureClass, &str); 21] = [
    (
        "25006",
        FailureClass::Held(Hold::ReadOnly),
        "read-only transaction: a standby, or a server that was set to read-only",
    ),
    ("40001", FailureClass::Held(Hold::Serialization), "serialization failure"),
    ("40P01", FailureClass::Held(Hold::Deadlock), "deadlock"),
    ("57014", FailureClass::Held(Hold::Timeout), "statement timeout, or cancelled"),
    ("08", FailureClass::Held(Hold::Connection), "connection exception"),
    (
        "0A",
        FailureClass::Held(Hold::Session),
        "feature not supported; also a cached plan that changed: the connection cannot be used any more",
    ),
    ("22", FailureClass::Data, "data exception"),
    ("23", FailureClass::Data, "integrity constraint violation"),
    (
        "25",
        FailureClass::Held(Hold::Session),
        "invalid transaction state: the connection cannot be used any more",
    ),
    (
        "26",
        FailureClass::Held(Hold::Session),
        "invalid statement name: a pooler assigned another server connection",
    ),
    ("28", FailureClass::Held(Hold::Operator), "invalid authorization"),
    ("3D", FailureClass::Held(Hold::Operator), "the database does not exist"),
    ("3F", FailureClass::Held(Hold::Operator), "the schema does not exist"),
    ("40", FailureClass::Held(Hold::Rollback), "transaction rollback"),
    (
        "42",
        FailureClass::Held(Hold::Operator),
        "a missing table, column or privilege: an operator has to fix it",
    ),
    (
        "53",
        FailureClass::Held(Hold::Resources),
        "insufficient resources: disk full, out of memory, too many connections",
    ),
    ("54", FailureClass::Data, "program limit exceeded: too deep, too large"),
    ("55", FailureClass::Held(Hold::Unavailable), "object not in prerequisite state: locked, or in use"),
    ("57", FailureClass::Held(Hold::Unavailable), "operator intervention: shutdown, crash, starting up"),
    ("58", FailureClass::Held(Hold::Resources), "system error: input or output failed"),
    (
        "XX",
        FailureClass::Held(Hold::Internal),
        "internal error: a corrupt index or table, or a bug of the server",
    ),
];

/// Returns the class of a SQLSTATE.
#[must_use]
pub fn classify(sqlstate: &str) -> FailureClass {
    let listed =
        |wanted: &str| SQLSTATES.iter().find(|(code, ..)| *code == wanted).map(|(_, class, _)| *class);
    listed(sqlstate).or_else(|| listed(sqlstate.get(..2)?)).unwrap_or(FailureClass::Unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_those_of_the_contract() {
        for data in ["22P05", "22003", "23514", "23502", "54001", "22P02"] {
            assert_eq!(classify(data), FailureClass::Data, "{data}");
        }
        for held in [
            "08006", "40P01", "40001", "53100", "53300", "55P03", "57P01", "57014", "25006", "42501", "42P01",
        ] {
            assert!(matches!(classify(held), FailureClass::Held(_)), "{held}");
        }
        assert_eq!(classify("XX002"), FailureClass::Held(Hold::Internal));
        for unknown in ["P0001", "F0000", "", "9"] {
            assert_eq!(classify(unknown), FailureClass::Unknown, "{unknown}");
        }
    }
}
