//! Waiting for a condition.

use std::future::Future;
use std::time::{Duration, Instant};

/// Upper bound of every wait. Only a failing test waits that long.
pub const TIMEOUT: Duration = Duration::from_secs(90);

/// Pause between two checks of a condition in another process, which sends no signal.
pub const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// Waits until `condition` holds, or fails with `what` after [`TIMEOUT`].
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let deadline = Instant::now() + TIMEOUT;
    while !condition().await {
        assert!(Instant::now() < deadline, "not within {TIMEOUT:?}: {what}");
        // The condition is about other processes, which send no signal.
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}
