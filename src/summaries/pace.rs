//! Pause between two rounds.

use std::time::Duration;

/// Pause where everything is taken in: the summaries are that much behind, and the rows of workflows at work are written that often.
const INTERVAL: Duration = Duration::from_millis(500);

/// Rate of events from which a backlog is draining: workers have the machine then.
const DRAINING: f64 = 10_000.0;

/// Share of the machine that the task may take meanwhile.
const SHARE: f64 = 0.02;

/// Longest pause for a draining backlog.
const MAX_PAUSE: Duration = Duration::from_secs(10);

/// Returns the pause after a round that took `took`. `complete` is set where nothing was left.
pub(super) fn pause(took: Duration, complete: bool, stored_per_second: f64, processors: usize) -> Duration {
    if stored_per_second > DRAINING {
        // A round occupies one processor: the client's, or the server's.
        let busy_share = SHARE * processors as f64;
        return took.mul_f64((1.0 / busy_share - 1.0).max(0.0)).clamp(INTERVAL, MAX_PAUSE);
    }
    if complete { INTERVAL } else { Duration::ZERO }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUND: Duration = Duration::from_millis(100);

    #[test]
    fn a_draining_backlog_leaves_98_percent_of_the_machine_to_the_workers() {
        assert_eq!(pause(ROUND, false, 40_000.0, 2), Duration::from_millis(2400));
        assert_eq!(pause(ROUND, false, 40_000.0, 64), INTERVAL);
        assert_eq!(pause(ROUND * 100, false, 40_000.0, 2), MAX_PAUSE);
    }

    #[test]
    fn what_is_left_is_taken_in_at_once() {
        assert_eq!(pause(ROUND, false, 5000.0, 2), Duration::ZERO);
        assert_eq!(pause(ROUND, true, 5000.0, 2), INTERVAL);
    }
}
