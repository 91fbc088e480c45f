//! Results of starting, logging, flushing and closing.

use crate::broker::UriError;
use crate::event::Rejection;

/// Error for a configuration that cannot be used. An unreachable broker is not an error.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The broker's URI cannot be used.
    #[error("the broker's URI {0}")]
    Uri(#[from] UriError),
    /// The buffer or the spool is smaller than the largest event.
    #[error(
        "a buffer of {events} events and {bytes} bytes cannot hold an event of the maximum size ({max_message_bytes} bytes)"
    )]
    Buffer {
        /// [`PublisherConfig::buffer`](super::PublisherConfig::buffer)
        events: usize,
        /// [`PublisherConfig::buffer`](super::PublisherConfig::buffer)
        bytes: usize,
        /// [`PublisherConfig::max_message_bytes`](super::PublisherConfig::max_message_bytes)
        max_message_bytes: usize,
    },
    /// `spool_when` is set without a folder.
    #[error("spool_when needs a spool folder")]
    NoSpool,
    /// A name is longer than the 255 bytes of AMQP.
    #[error("{0} has more than 255 bytes")]
    TooLong(&'static str),
    /// The spool folder, or the file in it, cannot be used.
    #[error("cannot use the spool: {0}")]
    Spool(String),
    /// The system cannot start a thread.
    #[error("cannot start the publisher's thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// Error for an event that was not accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// A worker could not store it.
    #[error(transparent)]
    Invalid(#[from] Rejection),
    /// The buffer has no room for it, or had none until the deadline.
    #[error("the buffer has no room for the event")]
    NoRoom,
    /// The publisher is closed.
    #[error("the publisher is closed")]
    Closed,
}

/// Result of [`Publisher::flush`](super::Publisher::flush).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlushReport {
    /// Events that the broker has confirmed since the publisher was started.
    pub confirmed: u64,
    /// Events that the broker refused for what they are ([`Stats::rejected`](super::Stats::rejected)).
    pub rejected: u64,
    /// Events that are accepted and neither confirmed nor rejected, including those in the spool.
    pub left: u64,
    /// Events in the spool, which the next publisher on the same folder sends.
    pub in_spool: u64,
}

/// Result of [`Publisher::close`](super::Publisher::close).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CloseReport {
    /// Events that the broker has confirmed since the publisher was started.
    pub confirmed: u64,
    /// Events that the broker refused for what they are ([`Stats::rejected`](super::Stats::rejected)).
    pub rejected: u64,
    /// Events that are accepted and neither confirmed nor rejected, including those in the spool.
    pub left: u64,
    /// Events in the spool, which the next publisher on the same folder sends.
    pub in_spool: u64,
    /// `event_id`s of the unconfirmed events that are not in the spool: they are lost. A caller that still has them may publish
    /// them again.
    pub lost: Vec<String>,
}
