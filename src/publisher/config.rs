//! Configuration of a publisher.

use std::fmt;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::named::named_enum;

/// Configuration of a publisher: the broker, and the limits of buffer and spool.
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
    /// Added to errors about the broker.
    pub(super) note: &'static str,
    pub(super) app_id: String,
    pub(super) exchange: String,
    pub(super) buffer_events: usize,
    pub(super) buffer_bytes: usize,
    pub(super) max_message_bytes: usize,
    pub(super) spool_folder: Option<PathBuf>,
    pub(super) spool_when: Option<SpoolWhen>,
    pub(super) spool_bytes: u64,
    pub(super) open_spool_later: bool,
}

named_enum! {
    /// Condition under which events are written to the spool.
    #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
    #[serde(rename_all = "snake_case")]
    #[non_exhaustive]
    pub enum SpoolWhen {
        /// Every event, before it is sent. A kill loses the events of the last milliseconds, since the last commit.
        Always = "always",
        /// When the broker has been unreachable for a second, and when the buffer is half full.
        #[default]
        Outage = "outage",
        /// Only when the buffer is half full: a short outage does not use the disk.
        BufferFull = "buffer_full",
    }
}

impl PublisherConfig {
    /// Returns the default configuration: the exchange `cns.events`, a buffer of 100,000 events and 128 MiB, messages of up to
    /// 1 MiB, no spool.
    ///
    /// `uri` is an `amqp://` or `amqps://` URI. `app_id` names this producer in every message.
    pub fn new(uri: impl Into<String>, app_id: impl Into<String>) -> Self {
        PublisherConfig {
            uri: uri.into(),
            note: "",
            app_id: app_id.into(),
            exchange: "cns.events".to_owned(),
            buffer_events: 100_000,
            buffer_bytes: 128 * 1024 * 1024,
            max_message_bytes: 1024 * 1024,
            spool_folder: None,
            spool_when: None,
            spool_bytes: 1024 * 1024 * 1024,
            open_spool_later: false,
        }
    }

    /// Sets a note for errors about the broker, such as the setting that would name another.
    pub fn note(mut self, note: &'static str) -> Self {
        self.note = note;
        self
    }

    /// Sets the exchange.
    pub fn exchange(mut self, exchange: impl Into<String>) -> Self {
        self.exchange = exchange.into();
        self
    }

    /// Sets the maximum events and bytes in memory: accepted, and neither confirmed nor on disk. Further events are dropped and
    /// counted.
    pub fn buffer(mut self, events: usize, bytes: usize) -> Self {
        (self.buffer_events, self.buffer_bytes) = (events, bytes);
        self
    }

    /// Sets the maximum size of a body in bytes: the pool's `worker.max_message_bytes`.
    pub fn max_message_bytes(mut self, bytes: usize) -> Self {
        self.max_message_bytes = bytes;
        self
    }

    /// Sets the folder in which events wait for the broker, and survive the end of this process. It is created where it is missing.
    /// Several processes may share it.
    pub fn spool(mut self, folder: impl Into<PathBuf>) -> Self {
        self.spool_folder = Some(folder.into());
        self
    }

    /// Sets the condition for the spool (default [`SpoolWhen::Outage`]). Needs a [folder](PublisherConfig::spool).
    pub fn spool_when(mut self, when: SpoolWhen) -> Self {
        self.spool_when = Some(when);
        self
    }

    /// Sets the maximum bytes of events in the spool (default 1 GiB).
    pub fn spool_bytes(mut self, bytes: u64) -> Self {
        self.spool_bytes = bytes;
        self
    }

    /// Lets [`Publisher::start`](super::Publisher::start) return before the spool is open, which may take seconds where other
    /// processes left many events. A spool that cannot be opened is then logged, and events are kept in memory only.
    pub fn open_spool_later(mut self) -> Self {
        self.open_spool_later = true;
        self
    }
}

/// Omits the URI, which contains a password.
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
            .field("open_spool_later", &self.open_spool_later)
            .finish_non_exhaustive()
    }
}
