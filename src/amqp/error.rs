//! Failures of a connection, classed by what the caller does next.

/// Reply code of a delivery that was not acknowledged in the broker's time, among others (AMQP 0-9-1, 1.2).
const PRECONDITION_FAILED: u16 = 406;

/// Failure of a connection.
#[derive(Debug, thiserror::Error)]
pub enum AmqpError {
    /// The network failed.
    #[error("IO error: {0}")]
    Io(#[from] std::io::Error),
    /// No connection was opened. The cause is in the text.
    #[error("cannot connect to {place}: {reason}")]
    Connect {
        /// Host and port.
        place: String,
        /// Cause.
        reason: String,
    },
    /// The broker closed the channel or the connection.
    #[error("the broker closed the channel or the connection: {text}")]
    Closed {
        /// Reply code (AMQP 0-9-1, 1.2).
        code: u16,
        /// The broker's reason.
        text: String,
    },
    /// An alarm blocks publishing.
    #[error("the broker blocks publishers: {0}")]
    Blocked(String),
    /// The broker ended the consumer.
    #[error("the broker ended the consumer: the queue may have been deleted")]
    Cancelled,
    /// The queue is a stream: its messages are not removed by an ack.
    #[error("the queue is a stream: a worker needs a quorum queue or a classic queue")]
    Stream,
    /// The broker did not answer in time.
    #[error("the broker did not answer within 10 s")]
    Silence,
    /// The broker sent something that has no place there.
    #[error("unexpected answer from the broker: {0}")]
    Protocol(String),
}

impl AmqpError {
    /// Returns the error about a connection to `place` that could not be opened.
    pub(super) fn unreached(self, place: String) -> Self {
        let reason = match self {
            AmqpError::Io(error) => error.to_string(),
            AmqpError::Closed { text, .. } => text,
            AmqpError::Silence => "no answer within 10 s".to_owned(),
            other => other.to_string(),
        };
        AmqpError::Connect { place, reason }
    }

    /// Returns whether the broker closed a channel that only consumes because a delivery was not acknowledged in its time.
    #[must_use]
    pub fn is_ack_timeout(&self) -> bool {
        matches!(self, AmqpError::Closed { code: PRECONDITION_FAILED, .. })
    }
}
