//! Pause after a batch of deletions, so that workers keep their speed.

use std::time::Duration;

/// Longest duration of a batch that the pause follows: a longer batch waited for a database that was away.
const MAX_BATCH: Duration = Duration::from_secs(2);

/// Returns the pause after a batch of `rows` that took `took`: the rest of the time that the rate allows for it, and at least half of
/// `took`, because a batch takes longer where the database is busy. A rate of 0 is no limit and no pause.
pub(super) fn pause(rows: u64, took: Duration, rate_rows_per_second: u32) -> Duration {
    if rate_rows_per_second == 0 {
        return Duration::ZERO;
    }
    let due = Duration::from_secs_f64(rows as f64 / f64::from(rate_rows_per_second));
    due.saturating_sub(took).max(took.min(MAX_BATCH) / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn the_rate_is_kept() {
        assert_eq!(pause(1000, ms(10), 10_000), ms(90));
        assert_eq!(pause(500, ms(10), 10_000), ms(40));
        assert_eq!(pause(u64::from(u32::MAX), Duration::ZERO, 1), Duration::from_secs(u32::MAX.into()));
    }

    #[test]
    fn a_busy_database_has_half_of_the_time_for_others() {
        assert_eq!(pause(1000, ms(400), 10_000), ms(200));
    }

    #[test]
    fn an_outage_is_not_mistaken_for_a_busy_database() {
        assert_eq!(pause(1000, Duration::from_secs(60), 10_000), MAX_BATCH / 2);
    }

    #[test]
    fn no_rate_is_no_pause() {
        assert_eq!(pause(1000, ms(400), 0), Duration::ZERO);
    }
}
