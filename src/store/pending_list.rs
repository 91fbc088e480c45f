//! Limit of the pending list of the payload's GIN index: an insert that finds the list longer has to merge it (docs/adr/0011).

use std::time::{Duration, Instant};

/// Mean rows of a batch from which a backlog is assumed. At 5,000 events a second a batch has about ten rows, with a backlog several
/// hundred. Single batches vary: RabbitMQ 3.10 delivers from a classic queue in groups of 200.
const BACKLOG_ROWS: usize = 100;

/// Weight of the history in the mean: a batch counts for one part of this many.
const WEIGHT: usize = 8;

/// Time without a merge after an insert that timed out: the merge may have caused the timeout, and would begin from the start
/// again. Autovacuum merges meanwhile.
const REST: Duration = Duration::from_secs(600);

/// Limit at which no insert merges: the maximum of the setting.
pub(super) const UNBOUNDED: &str = "2147483647kB";

/// State of one writer: the sizes of its recent batches, and the time until which it does not merge.
#[derive(Debug, Default)]
pub(super) struct PendingList {
    /// Rows of the recent batches, in the mean.
    mean_rows: usize,
    rests_until: Option<Instant>,
}

impl PendingList {
    /// Returns `gin_pending_list_limit` for the insert of a batch. A merge costs less per row the more rows it has, and the insert
    /// that merges waits for it.
    pub(super) fn limit(&mut self, rows: usize, now: Instant) -> &'static str {
        self.mean_rows = (self.mean_rows * (WEIGHT - 1) + rows) / WEIGHT;
        match self.rests_until {
            Some(until) if now < until => UNBOUNDED,
            _ if self.mean_rows >= BACKLOG_ROWS => "16MB",
            _ => "512kB",
        }
    }

    /// Records an insert that timed out.
    pub(super) fn timed_out(&mut self, now: Instant) {
        self.rests_until = Some(now + REST);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_decides_and_not_a_single_batch() {
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
