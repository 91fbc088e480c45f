//! The one retry policy: exponential backoff with jitter.

use std::time::Duration;

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
}
