//! The prefetch of a lane: as many messages as its byte budget allows, by the size of the recent ones.

/// Prefetch of a consumer and the mean size that it was chosen for.
#[derive(Debug)]
pub(super) struct Prefetch {
    /// Messages that the broker may send ahead.
    current: u16,
    /// Upper bound: `worker.prefetch`.
    max: u16,
    /// Byte budget of the lane: `worker.buffer_bytes`.
    buffer_bytes: usize,
    /// Mean size of the recent messages in bytes, once there were any.
    mean_bytes: Option<usize>,
}

impl Prefetch {
    /// Starts small enough that the budget holds even if every message has `max_message_bytes`.
    pub(super) fn new(buffer_bytes: usize, max_message_bytes: usize, max: u16) -> Self {
        let current = messages_fitting(buffer_bytes, max_message_bytes, max);
        Prefetch { current, max, buffer_bytes, mean_bytes: None }
    }

    /// Returns the messages that the broker may send ahead.
    pub(super) fn current(&self) -> u16 {
        self.current
    }

    /// Takes in a batch, and returns the prefetch that should replace the current one where that does not suit the sizes.
    ///
    /// The new one leaves room for messages of twice the mean, so that it need not change again at once.
    pub(super) fn adapt(&mut self, bytes: usize, rows: usize) -> Option<u16> {
        let mean_bytes = mean(self.mean_bytes, bytes, rows);
        self.mean_bytes = Some(mean_bytes);
        let fitting = messages_fitting(self.buffer_bytes / 2, mean_bytes, self.max);
        let unsuitable = u32::from(fitting) >= 2 * u32::from(self.current) || fitting <= self.current / 4;
        unsuitable.then_some(fitting)
    }

    /// Makes `prefetch` the current one.
    pub(super) fn set(&mut self, prefetch: u16) {
        self.current = prefetch;
    }
}

/// Returns how many messages of a size fit into a budget: at least 1, at most `max`.
fn messages_fitting(budget_bytes: usize, each_bytes: usize, max: u16) -> u16 {
    u16::try_from(budget_bytes / each_bytes.max(1)).unwrap_or(u16::MAX).clamp(1, max)
}

/// Moves the mean a quarter of the way down towards that of the last batch, or all the way up at once.
fn mean(before: Option<usize>, bytes: usize, rows: usize) -> usize {
    let now = bytes / rows.max(1);
    match before {
        Some(before) if before > now => before - (before - now).div_ceil(4),
        _ => now,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MIB: usize = 1024 * 1024;

    #[test]
    fn the_first_prefetch_assumes_the_largest_messages() {
        assert_eq!(Prefetch::new(64 * MIB, MIB, 2000).current(), 64);
        assert_eq!(messages_fitting(32 * MIB, 760, 2000), 2000);
        assert_eq!(messages_fitting(10, 100, 2000), 1);
    }

    #[test]
    fn small_messages_raise_it_and_large_ones_lower_it() {
        let mut prefetch = Prefetch::new(64 * MIB, MIB, 2000);
        assert_eq!(prefetch.adapt(100 * 760, 100), Some(2000));
        prefetch.set(2000);
        assert_eq!(prefetch.adapt(100 * 760, 100), None);
        assert_eq!(prefetch.adapt(10 * MIB, 10), Some(32));
    }

    #[test]
    fn the_mean_rises_at_once_and_falls_slowly() {
        assert_eq!(mean(None, 7600, 10), 760);
        assert_eq!(mean(Some(100), 10_000, 10), 1000);
        assert_eq!(mean(Some(1000), 1000, 10), 775);
    }

    proptest! {
        #[test]
        fn the_budget_holds_for_the_sizes_that_were_seen(
            buffer in 1_usize..1 << 30, largest in 1_usize..1 << 24, max in 1_u16..,
            batches in proptest::collection::vec((1_usize..2000, 1_usize..1 << 22), 1..30),
        ) {
            let mut prefetch = Prefetch::new(buffer, largest, max);
            for (rows, each) in batches {
                if let Some(next) = prefetch.adapt(rows * each, rows) {
                    prop_assert!((1..=max).contains(&next) && next != prefetch.current());
                    prefetch.set(next);
                    prop_assert!(next == 1 || usize::from(next) * each <= buffer / 2);
                }
            }
        }
    }
}
