//! The one retry policy: exponential backoff with jitter, without end or within a budget of time.

use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

/// The first delay, doubled each time.
const FIRST_DELAY: Duration = Duration::from_millis(50);

/// The longest delay before jitter, which may double it: bounds the time until the end of an outage is noticed.
const MAX_DELAY: Duration = Duration::from_secs(2);

/// Delays between retries that go on until they succeed.
#[derive(Debug)]
pub(crate) struct Backoff(ExponentialBackoff);

impl Default for Backoff {
    fn default() -> Self {
        let delays = ExponentialBuilder::default()
            .with_min_delay(FIRST_DELAY)
            .with_max_delay(MAX_DELAY)
            .with_jitter()
            .without_max_times();
        Backoff(delays.build())
    }
}

impl Backoff {
    /// Returns the delay before the next retry.
    pub(crate) fn next_delay(&mut self) -> Duration {
        self.0.next().unwrap_or(MAX_DELAY)
    }
}

/// Delays between retries that end at a deadline.
#[cfg(feature = "service")]
#[derive(Debug)]
pub(crate) struct RetryBudget {
    backoff: Backoff,
    deadline: Instant,
}

#[cfg(feature = "service")]
impl RetryBudget {
    /// Starts a budget of `limit`.
    pub(crate) fn new(limit: Duration) -> Self {
        RetryBudget { backoff: Backoff::default(), deadline: Instant::now() + limit }
    }

    /// Returns whether the deadline has passed.
    pub(crate) fn is_spent(&self) -> bool {
        Instant::now() >= self.deadline
    }

    /// Returns the delay before the next retry, or `None` where the retry would start after the deadline.
    pub(crate) fn next_delay(&mut self) -> Option<Duration> {
        let delay = self.backoff.next_delay();
        (Instant::now() + delay < self.deadline).then_some(delay)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_grow_to_a_bound() {
        let mut backoff = Backoff::default();
        let delays: Vec<_> = std::iter::from_fn(|| Some(backoff.next_delay())).take(50).collect();
        assert!(delays[0] >= FIRST_DELAY && delays[0] <= FIRST_DELAY * 2);
        assert!(delays.iter().all(|delay| *delay <= MAX_DELAY * 2), "jitter adds at most the delay again");
    }

    #[test]
    #[cfg(feature = "service")]
    fn a_budget_ends_at_its_deadline() {
        assert_eq!(RetryBudget::new(Duration::ZERO).next_delay(), None);
        assert!(RetryBudget::new(Duration::ZERO).is_spent());
        let mut budget = RetryBudget::new(Duration::from_secs(60));
        assert!(!budget.is_spent() && budget.next_delay().is_some());
    }
}
