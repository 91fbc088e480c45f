//! How starting, logging, flushing and closing end.

use crate::broker::UriError;
use crate::event::Rejection;

/// A publisher cannot be started as it is configured. That the broker is away is no reason.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The broker's URI.
    #[error("the broker's URI {0}")]
    Uri(#[from] UriError),
    /// The buffer, or the spool, could never hold the largest event.
    #[error(
        "a buffer of {events} events and {bytes} bytes cannot hold one of the largest size ({max_message_bytes} bytes)"
    )]
    Buffer {
        /// [`PublisherConfig::buffer`](super::PublisherConfig::buffer)
        events: usize,
        /// [`PublisherConfig::buffer`](super::PublisherConfig::buffer)
        bytes: usize,
        /// [`PublisherConfig::max_message_bytes`](super::PublisherConfig::max_message_bytes)
        max_message_bytes: usize,
    },
    /// It is said when to spool, and not where to.
    #[error("spool_when needs a spool folder")]
    NoSpool,
    /// A name longer than the 255 bytes that AMQP has for it.
    #[error("{0} has more than 255 bytes")]
    TooLong(&'static str),
    /// The spool folder, or the file in it.
    #[error("the spool cannot be used: {0}")]
    Spool(String),
    /// The system gives no thread.
    #[error("the publisher's thread cannot be started: {0}")]
    Thread(#[from] std::io::Error),
}

/// An event was not logged.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// The worker could not store it.
    #[error(transparent)]
    Invalid(#[from] Rejection),
    /// There was no room for it until the deadline.
    #[error("there was no room for the event until the deadline")]
    NoRoom,
    /// The publisher was closed.
    #[error("the publisher was closed")]
    Closed,
}

/// What [`Publisher::flush`](super::Publisher::flush) leaves behind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlushReport {
    /// Events that the broker has confirmed since the publisher was started.
    pub confirmed: u64,
    /// Events that are accepted and not confirmed, those in the spool included.
    pub left: u64,
    /// Of those, the events that are in the spool, and will be sent by the next publisher on the same folder.
    pub in_spool: u64,
}

/// What [`Publisher::close`](super::Publisher::close) leaves behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CloseReport {
    /// Events that the broker has confirmed since the publisher was started.
    pub confirmed: u64,
    /// Events that are accepted and not confirmed, those in the spool included.
    pub left: u64,
    /// Of those, the events that are in the spool, and will be sent by the next publisher on the same folder.
    pub in_spool: u64,
    /// The `event_id`s of those that are in no spool either. They are lost to this publisher; whoever has them may
    /// publish them again.
    pub lost: Vec<String>,
}
