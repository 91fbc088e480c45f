//! What a failed statement means for the event: section 5 of the contract, by SQLSTATE.

use std::fmt;

use super::connect::{ConnectError, describe};

/// What the worker does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// The row's own fault: it is dead-lettered.
    Data,
    /// Anybody's fault but the row's: it is held and tried again. The word is the metric's label.
    Held(&'static str),
    /// Known to nobody: held, unless one row alone fails while a probe succeeds.
    Unknown,
}

/// Why a statement failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// What to do about it.
    pub class: Class,
    /// Five characters, where the server answered.
    pub sqlstate: Option<String>,
    /// One line. The server's primary message: it may quote a value of the row.
    pub message: String,
}

impl Failure {
    pub(super) fn timeout(milliseconds: u128) -> Self {
        Failure {
            class: Class::Held("timeout"),
            sqlstate: None,
            message: format!("no answer within {milliseconds} ms"),
        }
    }

    /// An answer that no server gives.
    pub(super) fn unexpected(what: &str) -> Self {
        Failure { class: Class::Unknown, sqlstate: None, message: format!("unexpected: {what}") }
    }

    /// A row that is stored and that this program has no value for.
    pub(super) fn unreadable(what: &str) -> Self {
        Failure { class: Class::Data, sqlstate: None, message: what.to_owned() }
    }

    /// Whether the connection is as good as it was. What is anybody's fault but the row's may be a setting that the session
    /// took over at its login and that a new one would not have: read-only, a search path, a timeout.
    pub(super) fn leaves_the_session(&self) -> bool {
        match self.class {
            Class::Data | Class::Unknown => self.sqlstate.is_some(),
            Class::Held(reason) => matches!(reason, "serialization" | "deadlock"),
        }
    }

    /// What was wrong, without anything that the server may have quoted from a row.
    #[must_use]
    pub fn summary(&self) -> String {
        match (&self.sqlstate, self.class) {
            (Some(code), Class::Data | Class::Unknown) => format!("SQLSTATE {code}"),
            (Some(code), Class::Held(_)) => format!("{} (SQLSTATE {code})", self.message),
            (None, _) => self.message.clone(),
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.summary())
    }
}

impl std::error::Error for Failure {}

impl From<tokio_postgres::Error> for Failure {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(answer) => Failure {
                class: classify(answer.code().code()),
                sqlstate: Some(answer.code().code().to_owned()),
                message: answer.message().lines().next().unwrap_or_default().to_owned(),
            },
            None => Failure { class: Class::Held("connection"), sqlstate: None, message: describe(&error) },
        }
    }
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        match error {
            ConnectError::Postgres(error) => error.into(),
            error @ (ConnectError::Setup(_) | ConnectError::Silent(_)) => {
                Failure { class: Class::Held("connection"), sqlstate: None, message: error.to_string() }
            }
        }
    }
}

/// The one table of SQLSTATEs (`PostgreSQL` documentation, appendix A): a code or the two characters of a class, what it
/// means for the event, and why. A code stands before its class. What is not listed is unknown.
pub const SQLSTATES: [(&str, Class, &str); 20] = [
    ("25006", Class::Held("read_only"), "read-only transaction: a standby, or a server that was set so"),
    ("40001", Class::Held("serialization"), "serialization failure"),
    ("40P01", Class::Held("deadlock"), "deadlock"),
    ("57014", Class::Held("timeout"), "statement timeout, or cancelled"),
    ("08", Class::Held("connection"), "connection exception"),
    (
        "0A",
        Class::Held("session"),
        "feature not supported; also a cached plan that changed: this connection is of no use",
    ),
    ("22", Class::Data, "data exception"),
    ("23", Class::Data, "integrity constraint violation"),
    ("25", Class::Held("session"), "invalid transaction state: this connection is of no use"),
    ("26", Class::Held("session"), "invalid statement name: a pooler gave the connection to somebody else"),
    ("28", Class::Held("operator"), "invalid authorization"),
    ("3D", Class::Held("operator"), "the database does not exist"),
    ("3F", Class::Held("operator"), "the schema does not exist"),
    ("40", Class::Held("rollback"), "transaction rollback"),
    (
        "42",
        Class::Held("operator"),
        "a missing table, column or privilege: the operator's fault, not the data's",
    ),
    (
        "53",
        Class::Held("resources"),
        "insufficient resources: disk full, out of memory, too many connections",
    ),
    ("54", Class::Data, "program limit exceeded: too deep, too large"),
    ("55", Class::Held("unavailable"), "object not in prerequisite state: locked, or in use"),
    ("57", Class::Held("unavailable"), "operator intervention: shutdown, crash, starting up"),
    ("58", Class::Held("resources"), "system error: input or output failed"),
];

/// The class of a SQLSTATE.
#[must_use]
pub fn classify(sqlstate: &str) -> Class {
    let listed =
        |wanted: &str| SQLSTATES.iter().find(|(code, ..)| *code == wanted).map(|(_, class, _)| *class);
    listed(sqlstate).or_else(|| listed(sqlstate.get(..2)?)).unwrap_or(Class::Unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_classes_of_the_contract() {
        for data in ["22P05", "22003", "23514", "23502", "54001", "22P02"] {
            assert_eq!(classify(data), Class::Data, "{data}");
        }
        for held in [
            "08006", "40P01", "40001", "53100", "53300", "55P03", "57P01", "57014", "25006", "42501", "42P01",
        ] {
            assert!(matches!(classify(held), Class::Held(_)), "{held}");
        }
        for unknown in ["P0001", "XX000", "", "9"] {
            assert_eq!(classify(unknown), Class::Unknown, "{unknown}");
        }
    }
}
