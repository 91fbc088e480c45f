//! What became of the events.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts since the publisher was started, and how things stand at this moment.
///
/// `accepted + recovered = confirmed + damaged + left`, where [`left`](Stats::left) are those on their way, in memory or on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Events taken over from callers.
    pub accepted: u64,
    /// Events refused because the worker could not store them. The log says why.
    pub invalid: u64,
    /// Payloads that break the schema of their type. They are published all the same.
    pub violations: u64,
    /// Events refused because there was no room for them, or because the publisher was closed.
    pub dropped: u64,
    /// Events that the broker has confirmed: they are on its disk.
    pub confirmed: u64,
    /// Messages that came back because no queue took them. They are sent again.
    pub returned: u64,
    /// Messages that had to be sent again: returned, refused by the broker, or unconfirmed when a connection ended.
    pub resent: u64,
    /// Events written to the spool.
    pub spooled: u64,
    /// Events of an earlier process, found in the spool.
    pub recovered: u64,
    /// Events that were in a spool file which turned out to be damaged. The file is kept aside; the log says where.
    pub damaged: u64,
    /// At this moment: in memory, not yet sent.
    pub waiting: u64,
    /// At this moment: sent, not yet confirmed.
    pub in_flight: u64,
    /// At this moment: in the spool, those in flight from there included.
    pub in_spool: u64,
    /// At this moment: whether the broker takes events.
    pub connected: bool,
}

impl Stats {
    /// Events that are accepted and not yet confirmed.
    #[must_use]
    pub fn left(&self) -> u64 {
        (self.accepted + self.recovered).saturating_sub(self.confirmed + self.damaged)
    }
}

/// A number that callers and the background task add to.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self, more: usize) {
        self.0.fetch_add(more as u64, Ordering::Relaxed);
    }

    pub(super) fn set(&self, value: usize) {
        self.0.store(value as u64, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The numbers behind [`Stats`].
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) invalid: Count,
    pub(super) violations: Count,
    pub(super) dropped: Count,
    pub(super) confirmed: Count,
    pub(super) returned: Count,
    pub(super) resent: Count,
    pub(super) spooled: Count,
    pub(super) recovered: Count,
    pub(super) damaged: Count,
    pub(super) in_flight: Count,
    pub(super) in_spool: Count,
}
