//! Retries within a budget of time.

use std::time::{Duration, Instant};

use crate::backoff::Backoff;

/// Delays between retries that end at a deadline.
#[derive(Debug)]
pub(crate) struct RetryBudget {
    backoff: Backoff,
    deadline: Instant,
}

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
    fn a_budget_ends_at_its_deadline() {
        assert_eq!(RetryBudget::new(Duration::ZERO).next_delay(), None);
        assert!(RetryBudget::new(Duration::ZERO).is_spent());
        let mut budget = RetryBudget::new(Duration::from_secs(60));
        assert!(!budget.is_spent() && budget.next_delay().is_some());
    }
}
