//! The one retry policy: exponential backoff with jitter, and a deadline for what is held.

use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

/// The first pause, doubled each time.
const FIRST: Duration = Duration::from_millis(50);

/// The longest pause before jitter, which may double it: how late the end of an outage is noticed.
const LONGEST: Duration = Duration::from_secs(2);

/// How long something has been tried, and how long to wait before it is tried again.
#[derive(Debug)]
pub(crate) struct Patience {
    pauses: ExponentialBackoff,
    deadline: Option<Instant>,
}

impl Patience {
    /// Tries for ever.
    pub(crate) fn endless() -> Self {
        Patience { pauses: pauses(), deadline: None }
    }

    /// Tries until `limit` is over.
    pub(crate) fn of(limit: Duration) -> Self {
        Patience { pauses: pauses(), deadline: Some(Instant::now() + limit) }
    }

    /// Whether the deadline has passed.
    pub(crate) fn is_over(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }

    /// How long to wait before the next try; `None` when patience is at its end.
    pub(crate) fn pause(&mut self) -> Option<Duration> {
        let pause = self.pauses.next().unwrap_or(LONGEST);
        match self.deadline {
            Some(deadline) if Instant::now() + pause >= deadline => None,
            _ => Some(pause),
        }
    }
}

fn pauses() -> ExponentialBackoff {
    ExponentialBuilder::default()
        .with_min_delay(FIRST)
        .with_max_delay(LONGEST)
        .with_jitter()
        .without_max_times()
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_end_at_the_deadline() {
        let mut endless = Patience::endless();
        let pauses: Vec<_> = std::iter::from_fn(|| endless.pause()).take(50).collect();
        assert!(pauses[0] >= FIRST && pauses[0] <= FIRST * 2);
        assert!(pauses.iter().all(|pause| *pause <= LONGEST * 2), "jitter adds at most the pause again");
        assert_eq!(Patience::of(Duration::ZERO).pause(), None);
        assert!(Patience::of(Duration::ZERO).is_over() && !endless.is_over());
    }
}
