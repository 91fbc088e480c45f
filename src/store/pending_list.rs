//! How long the list of new entries of the payload's GIN index may grow before the insert that finds it longer has to merge it
//! (docs/adr/0011).

use std::time::{Duration, Instant};

/// Rows of a batch, in the mean, that say that more are waiting. At 5,000 events a second a batch has some ten, with a backlog
/// several hundred; single ones vary, because RabbitMQ 3.10 feeds a lane in lots of two hundred from a classic queue.
const BACKLOG_ROWS: usize = 100;

/// What a batch counts for in the mean: one of so many parts.
const WEIGHT: usize = 8;

/// Nothing is merged for so long after an insert that timed out: it may have been the merge, which would begin again from the
/// start. Autovacuum merges meanwhile, and nobody waits for it.
const REST: Duration = Duration::from_secs(600);

/// No insert merges: the setting's own maximum.
pub(super) const UNBOUNDED: &str = "2147483647kB";

/// What one writer makes of the batches it has stored.
#[derive(Debug, Default)]
pub(super) struct PendingList {
    /// Rows of the recent batches, in the mean.
    mean_rows: usize,
    rests_until: Option<Instant>,
}

impl PendingList {
    /// `gin_pending_list_limit` for the insert of a batch: the merge is cheaper by the row the more rows there are, and whoever
    /// does it waits for it.
    pub(super) fn limit(&mut self, rows: usize, now: Instant) -> &'static str {
        self.mean_rows = (self.mean_rows * (WEIGHT - 1) + rows) / WEIGHT;
        match self.rests_until {
            Some(until) if now < until => UNBOUNDED,
            _ if self.mean_rows >= BACKLOG_ROWS => "16MB",
            _ => "512kB",
        }
    }

    /// An insert had no answer in time.
    pub(super) fn timed_out(&mut self, now: Instant) {
        self.rests_until = Some(now + REST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_tells_a_backlog_and_not_the_single_batch() {
        let (mut list, now) = (PendingList::default(), Instant::now());
        assert_eq!(list.limit(10, now), "512kB");
        assert_eq!(list.limit(1000, now), "16MB");
        assert_eq!(list.limit(50, now), "16MB", "the next lot of a classic queue");
        let small = (0..100).take_while(|_| list.limit(1, now) == "16MB").count();
        assert!((1..20).contains(&small), "{small}");
    }

    #[test]
    fn nothing_is_merged_for_a_while_after_a_timeout() {
        let (mut list, now) = (PendingList::default(), Instant::now());
        list.timed_out(now);
        assert_eq!(list.limit(1000, now), UNBOUNDED);
        assert_eq!(list.limit(1000, now + REST), "16MB");
    }
}
