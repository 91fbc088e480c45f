//! Servers to which no connection was opened, each with its name and the reason.

use std::time::Duration;

use super::conninfo::Server;

/// Failure to open a connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No server can be used. The text names each with its reason.
    #[error("cannot connect to {text}")]
    Unreached {
        /// Each server with the reason.
        text: String,
        /// The answer of a server, where one has answered; else an error of the network, where there is one.
        cause: Option<tokio_postgres::Error>,
    },
    /// Diesel could not set up the connection.
    #[error(transparent)]
    Setup(#[from] diesel::ConnectionError),
}

impl ConnectError {
    /// Returns the error about servers of which none can be used.
    pub(super) fn of(failures: Vec<Unreached>, note: &str) -> Self {
        let texts: Vec<String> = failures.iter().map(Unreached::text).collect();
        let text = if note.is_empty() { texts.join("; ") } else { format!("{} ({note})", texts.join("; ")) };
        let (mut answers, mut others): (Vec<_>, Vec<_>) = failures
            .into_iter()
            .filter_map(|failure| failure.error)
            .partition(|error| error.as_db_error().is_some());
        ConnectError::Unreached { text, cause: answers.pop().or_else(|| others.pop()) }
    }
}

/// A server that cannot be used.
pub(super) struct Unreached {
    place: String,
    reason: String,
    error: Option<tokio_postgres::Error>,
}

impl Unreached {
    /// The server did not answer.
    pub(super) fn silent(place: String, limit: Duration) -> Self {
        let reason = match limit.as_secs() {
            0 => format!("no answer within {} ms", limit.as_millis()),
            seconds => format!("no answer within {seconds} s"),
        };
        Unreached { place, reason, error: None }
    }

    /// The network refused, or the name is not known.
    pub(super) fn network(server: &Server, error: &std::io::Error) -> Self {
        Unreached { place: server.to_string(), reason: error.to_string(), error: None }
    }

    /// The server or the network refused.
    pub(super) fn refused(server: &Server, error: tokio_postgres::Error) -> Self {
        Unreached { place: server.to_string(), reason: reason(&error), error: Some(error) }
    }

    /// The server answers, and is not of the kind that `target_session_attrs` names.
    pub(super) fn other_kind(server: &Server, other: &str) -> Self {
        let reason = format!("{other}, and target_session_attrs wants another server");
        Unreached { place: server.to_string(), reason, error: None }
    }

    /// Returns the failure of one of the addresses of a server: the answer of a server, or else the last.
    pub(super) fn most_telling(mut failures: Vec<Unreached>, server: &Server) -> Self {
        let answered =
            |failure: &Unreached| failure.error.as_ref().is_some_and(|error| error.as_db_error().is_some());
        let at = failures.iter().position(answered).unwrap_or(failures.len().saturating_sub(1));
        if failures.is_empty() {
            let reason = "its name has no address".to_owned();
            return Unreached { place: server.to_string(), reason, error: None };
        }
        failures.swap_remove(at)
    }

    fn text(&self) -> String {
        format!("{}: {}", self.place, self.reason)
    }
}

/// Answers to a client without encryption, by the end of their text: of a server whose `pg_hba.conf` has `hostssl` lines only.
const NOT_ENCRYPTED: [&str; 2] = ["no encryption", "SSL off"];

/// Returns the reason in an error of the driver, with the fix where the text of the URL is one.
fn reason(error: &tokio_postgres::Error) -> String {
    if let Some(answer) = error.as_db_error() {
        let text = answer.message().lines().next().unwrap_or_default();
        let fix = if NOT_ENCRYPTED.iter().any(|end| text.ends_with(end)) {
            "; add sslmode=verify-full"
        } else {
            ""
        };
        return format!("{text}{fix}");
    }
    let text = describe(error);
    let fix = if text.ends_with("server does not support TLS") {
        "; use sslmode=disable on a trusted network"
    } else {
        ""
    };
    format!("{}{fix}", text.trim_start_matches("error connecting to server: "))
}

/// Returns an error of the driver with its cause, which `Display` omits.
pub(crate) fn describe(error: &tokio_postgres::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
