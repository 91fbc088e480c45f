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
            ConnectError::Setup(error) => {
                Failure { class: Class::Held("connection"), sqlstate: None, message: error.to_string() }
            }
        }
    }
}

/// The one table of SQLSTATEs (`PostgreSQL` documentation, appendix A). What is not listed is unknown.
#[must_use]
pub fn classify(sqlstate: &str) -> Class {
    match sqlstate {
        "40P01" => return Class::Held("deadlock"),
        "40001" => return Class::Held("serialization"),
        "57014" => return Class::Held("timeout"),
        "25006" => return Class::Held("read_only"),
        // A value nested too deep or too large for the server's limits.
        "54000" | "54001" => return Class::Data,
        _ => {}
    }
    match sqlstate.get(..2) {
        // Data exception, integrity constraint violation, program limit exceeded: caused by the value itself.
        Some("22" | "23" | "54") => Class::Data,
        Some("08") => Class::Held("connection"),
        // Invalid authorization, catalogue or schema name; syntax error or access rule violation: the
        // operator's fault (a missing table, column or permission).
        Some("28" | "3D" | "3F" | "42") => Class::Held("operator"),
        // Insufficient resources (disk full, too many connections), system error (I/O).
        Some("53" | "58") => Class::Held("resources"),
        // Transaction rollback, object not in prerequisite state, operator intervention.
        Some("40") => Class::Held("rollback"),
        Some("55" | "57") => Class::Held("unavailable"),
        // Invalid transaction state, invalid or outdated prepared statement: this connection is of no use.
        Some("25" | "26" | "0A") => Class::Held("session"),
        _ => Class::Unknown,
    }
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
