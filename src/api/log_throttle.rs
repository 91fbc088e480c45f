//! A log line that says the same a hundred times a second says it once, and how often it was not said.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// At most one line in this time.
const PAUSE: Duration = Duration::from_secs(1);

/// Lets one of many through.
#[derive(Debug, Default)]
pub(super) struct Throttle(Mutex<(Option<Instant>, u64)>);

impl Throttle {
    /// Whether to say it now, and how many were not said since the last time.
    pub(super) fn say(&self) -> Option<u64> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (last, unsaid) = *state;
        if last.is_some_and(|last| last.elapsed() < PAUSE) {
            state.1 += 1;
            return None;
        }
        *state = (Some(Instant::now()), 0);
        Some(unsaid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_of_many_is_said() {
        let throttle = Throttle::default();
        assert_eq!(throttle.say(), Some(0));
        assert_eq!((throttle.say(), throttle.say()), (None, None));
        throttle.0.lock().unwrap().0 = Instant::now().checked_sub(PAUSE);
        assert_eq!(throttle.say(), Some(2));
    }
}
