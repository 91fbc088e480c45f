//! Deliveries that have left their batch and wait alone, unsettled on their channel.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::batch::Batch;
use crate::dead_letters::DeliveryKey;

/// Maximum parked deliveries of a lane.
const MAX_PARKED: usize = 10_000;

/// Parked deliveries of a lane by channel and tag, each as a batch of its own.
#[derive(Debug, Default)]
pub(super) struct Parked {
    entries: BTreeMap<DeliveryKey, Entry>,
    bytes: usize,
}

#[derive(Debug)]
struct Entry {
    batch: Batch,
    parked_at: Instant,
}

impl Parked {
    /// Parks a delivery.
    pub(super) fn insert(&mut self, batch: Batch) {
        let Some(key) = batch.key() else { return batch.forget() };
        self.bytes += batch.bytes();
        self.entries.insert(key, Entry { batch, parked_at: Instant::now() });
    }

    /// Takes a delivery out.
    pub(super) fn remove(&mut self, key: DeliveryKey) -> Option<Batch> {
        let entry = self.entries.remove(&key)?;
        self.bytes -= entry.batch.bytes();
        Some(entry.batch)
    }

    /// Returns the number of parked deliveries of a channel.
    pub(super) fn on_channel(&self, channel: u16) -> usize {
        self.entries.range((channel, 0)..=(channel, u64::MAX)).count()
    }

    /// Returns the size of the parked messages in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns whether the maximum number is reached.
    pub(super) fn is_full(&self) -> bool {
        self.entries.len() >= MAX_PARKED
    }

    /// Returns the time at which the first delivery has been parked for `limit`.
    pub(super) fn first_overdue(&self, limit: Duration) -> Option<Instant> {
        self.entries.values().map(|entry| entry.parked_at).min().map(|parked_at| parked_at + limit)
    }

    /// Returns the deliveries that have been parked for `limit`.
    pub(super) fn overdue(&self, limit: Duration) -> Vec<DeliveryKey> {
        let overdue =
            |(key, entry): (&DeliveryKey, &Entry)| (entry.parked_at.elapsed() >= limit).then_some(*key);
        self.entries.iter().filter_map(overdue).collect()
    }

    /// Forgets every delivery: the channels are gone, or everything on them is returned.
    pub(super) fn forget(&mut self) {
        std::mem::take(&mut self.entries).into_values().for_each(|entry| entry.batch.forget());
        self.bytes = 0;
    }
}
