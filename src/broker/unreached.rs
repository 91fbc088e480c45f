//! Brokers to which no connection was opened.

use lapin::ErrorKind;

use super::refusal::answer;

/// Failure to open a connection: the broker's name and port, and the reason. Its cause is in the text.
#[derive(Clone, Debug, thiserror::Error)]
#[error("cannot connect to {place}: {reason}")]
pub struct ConnectError {
    place: String,
    reason: String,
}

impl ConnectError {
    pub(super) fn new(place: String, error: &lapin::Error) -> Self {
        let reason = match (answer(error), error.kind()) {
            (Some((_, answer)), _) => answer.get_message().to_string(),
            (None, ErrorKind::IOError(error)) => error.to_string(),
            (None, _) => error.to_string(),
        };
        ConnectError { place, reason }
    }
}
