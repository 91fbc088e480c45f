//! Counts of events.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counts since the publisher was started, and the current state.
///
/// `accepted + recovered = confirmed + rejected + damaged + left`, where [`left`](Stats::left) are the events in memory, in flight or on disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Events accepted from callers.
    pub accepted: u64,
    /// Events refused because a worker could not store them. The log has the reason.
    pub invalid: u64,
    /// Payloads that do not match the schema of their type. They are published.
    pub violations: u64,
    /// Events refused because there was no room for them, or because the publisher was closed.
    pub dropped: u64,
    /// Events that the broker has confirmed: they are on its disk.
    pub confirmed: u64,
    /// Events that the broker refused for what they are: too large for it, or without permission for their routing key. With a spool
    /// they are in its `refused.jsonl`. The log has the reason.
    pub rejected: u64,
    /// Messages returned because no queue took them. They are sent again.
    pub returned: u64,
    /// Messages sent again: returned, refused by the broker, or unconfirmed when a connection ended.
    pub resent: u64,
    /// Events written to the spool.
    pub spooled: u64,
    /// Events of an earlier process, found in the spool.
    pub recovered: u64,
    /// Events of damaged spool files. The files are kept; the log has their names.
    pub damaged: u64,
    /// Events in memory that are not sent yet, at the moment.
    pub waiting: u64,
    /// Events sent and not confirmed yet, at the moment.
    pub in_flight: u64,
    /// Events in the spool, including those in flight from it, at the moment.
    pub in_spool: u64,
    /// Set while the broker takes events.
    pub connected: bool,
}

impl Stats {
    /// Returns the number of events that are accepted and not confirmed yet.
    #[must_use]
    pub fn left(&self) -> u64 {
        (self.accepted + self.recovered).saturating_sub(self.confirmed + self.rejected + self.damaged)
    }
}

/// Count that callers and the publisher's thread add to.
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

/// Counts of [`Stats`].
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) invalid: Count,
    pub(super) violations: Count,
    pub(super) dropped: Count,
    pub(super) confirmed: Count,
    pub(super) rejected: Count,
    pub(super) returned: Count,
    pub(super) resent: Count,
    pub(super) spooled: Count,
    pub(super) recovered: Count,
    pub(super) damaged: Count,
    pub(super) in_flight: Count,
    pub(super) in_spool: Count,
}
