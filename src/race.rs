//! Attempts of which the first success counts: each begins when the one before it has failed, or was silent for a while.

use std::time::Duration;

use futures_util::stream::{FuturesUnordered, StreamExt};

/// Silence of an attempt after which the next one begins beside it. A server that is only slow has answered by then.
const SILENCE: Duration = Duration::from_secs(1);

/// Returns the first success. The other attempts are dropped.
///
/// # Errors
/// Every failure, in the order of the ends.
pub(crate) async fn race<T, E>(attempts: Vec<impl Future<Output = Result<T, E>>>) -> Result<T, Vec<E>> {
    let mut waiting = attempts.into_iter().peekable();
    let mut running = FuturesUnordered::new();
    running.extend(waiting.next());
    let mut failures = Vec::new();
    while !running.is_empty() {
        tokio::select! {
            Some(ended) = running.next() => match ended {
                Ok(success) => return Ok(success),
                Err(failure) => failures.push(failure),
            },
            () = tokio::time::sleep(SILENCE), if waiting.peek().is_some() => {}
        }
        running.extend(waiting.next());
    }
    Err(failures)
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::pin::Pin;

    use super::*;

    type Attempt = Pin<Box<dyn Future<Output = Result<u8, &'static str>>>>;

    fn silent() -> Attempt {
        Box::pin(pending())
    }

    fn ends(with: Result<u8, &'static str>) -> Attempt {
        Box::pin(async move { with })
    }

    #[tokio::test]
    async fn a_silent_attempt_does_not_hold_up_the_next() {
        assert_eq!(race(vec![silent(), silent(), ends(Ok(3))]).await, Ok(3));
    }

    #[tokio::test]
    async fn the_first_success_counts_and_every_failure_is_returned() {
        assert_eq!(race(vec![ends(Err("a")), ends(Ok(2)), ends(Ok(3))]).await, Ok(2));
        assert_eq!(race(vec![ends(Err("a")), ends(Err("b"))]).await, Err(vec!["a", "b"]));
        assert_eq!(race(Vec::<Attempt>::new()).await, Err(vec![]));
    }

    #[tokio::test]
    async fn an_attempt_that_only_began_late_may_still_win() {
        let slow: Attempt = Box::pin(async {
            tokio::time::sleep(SILENCE * 2).await;
            Ok(1)
        });
        assert_eq!(race(vec![slow, ends(Err("b")), silent()]).await, Ok(1));
    }
}
