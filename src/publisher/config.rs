//! What a publisher is started with.

use std::fmt;
use std::path::PathBuf;

/// Where events go, and what may pile up while they cannot.
///
/// ```
/// use cns_events::publisher::{PublisherConfig, SpoolWhen};
///
/// let config = PublisherConfig::new("amqp://user:password@127.0.0.1/%2f", "enrichment-workflow")
///     .buffer(20_000, 32 * 1024 * 1024)
///     .spool("/var/spool/enrichment-workflow")
///     .spool_when(SpoolWhen::BufferFull);
/// assert!(!format!("{config:?}").contains("password"));
/// ```
#[derive(Clone)]
#[must_use]
pub struct PublisherConfig {
    pub(super) uri: String,
    pub(super) app_id: String,
    pub(super) exchange: String,
    pub(super) buffer_events: usize,
    pub(super) buffer_bytes: usize,
    pub(super) max_message_bytes: usize,
    pub(super) spool_folder: Option<PathBuf>,
    pub(super) spool_when: Option<SpoolWhen>,
    pub(super) spool_bytes: u64,
}

/// When events go to the spool folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SpoolWhen {
    /// Every event, before it is sent. A kill costs what came in the last milliseconds: since the last commit.
    Always,
    /// As soon as the broker has been away for a second, and wherever the buffer is half full.
    #[default]
    Outage,
    /// When the buffer is half full, and not before: a short outage never touches the disk.
    BufferFull,
}

impl PublisherConfig {
    /// The exchange `cns.events` of a broker, a buffer of 100,000 events and 128 MiB, messages of up to 1 MiB, no spool.
    ///
    /// `uri` is an `amqp://` or `amqps://` URI. `app_id` names this producer; it stands in every message.
    pub fn new(uri: impl Into<String>, app_id: impl Into<String>) -> Self {
        PublisherConfig {
            uri: uri.into(),
            app_id: app_id.into(),
            exchange: "cns.events".to_owned(),
            buffer_events: 100_000,
            buffer_bytes: 128 * 1024 * 1024,
            max_message_bytes: 1024 * 1024,
            spool_folder: None,
            spool_when: None,
            spool_bytes: 1024 * 1024 * 1024,
        }
    }

    /// Another exchange.
    pub fn exchange(mut self, exchange: impl Into<String>) -> Self {
        self.exchange = exchange.into();
        self
    }

    /// How many events, and how many bytes of them, are held in memory at most: accepted, and neither confirmed
    /// nor on disk. What comes on top of it is dropped and counted.
    pub fn buffer(mut self, events: usize, bytes: usize) -> Self {
        (self.buffer_events, self.buffer_bytes) = (events, bytes);
        self
    }

    /// The largest body in bytes: `worker.max_message_bytes` of the pool that stores it.
    pub fn max_message_bytes(mut self, bytes: usize) -> Self {
        self.max_message_bytes = bytes;
        self
    }

    /// A folder in which events wait for the broker, and survive the end of this process however it ends. It is made
    /// where it is missing. Several processes may share it.
    pub fn spool(mut self, folder: impl Into<PathBuf>) -> Self {
        self.spool_folder = Some(folder.into());
        self
    }

    /// When events go to the spool; [`SpoolWhen::Outage`] unless set. Needs a [folder](PublisherConfig::spool).
    pub fn spool_when(mut self, when: SpoolWhen) -> Self {
        self.spool_when = Some(when);
        self
    }

    /// How many bytes of events the spool may hold, 1 GiB unless set.
    pub fn spool_bytes(mut self, bytes: u64) -> Self {
        self.spool_bytes = bytes;
        self
    }
}

/// Without the URI, which holds a password.
impl fmt::Debug for PublisherConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PublisherConfig")
            .field("app_id", &self.app_id)
            .field("exchange", &self.exchange)
            .field("buffer_events", &self.buffer_events)
            .field("buffer_bytes", &self.buffer_bytes)
            .field("max_message_bytes", &self.max_message_bytes)
            .field("spool_folder", &self.spool_folder)
            .field("spool_when", &self.spool_when)
            .field("spool_bytes", &self.spool_bytes)
            .finish_non_exhaustive()
    }
}
