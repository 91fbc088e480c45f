//! The end of a session or of the worker, as every part of a lane sees it.

use std::future::Future;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::amqp::AmqpError;

/// Loss of the channel, or of the connection under it.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionLost {
    /// Failure of this lane's connection.
    #[error(transparent)]
    Broker(#[from] AmqpError),
    /// Another lane's failure ended the session.
    #[error("the session ended")]
    Ended,
}

/// Signal to stop waiting: the worker stops, or the session has ended.
#[derive(Debug)]
pub(super) struct Stop;

/// Expiry of `worker.hold_seconds`, or a stop that ended the hold earlier.
#[derive(Debug)]
pub(super) struct HoldExpired;

/// Tokens that end the lanes of one session. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Session {
    /// Cancelled when the worker has to stop.
    shutdown: CancellationToken,
    /// Cancelled when the session has ended: nothing of it can be acknowledged any more.
    ended: CancellationToken,
}

impl Session {
    /// Starts a session of a worker that stops by `shutdown`.
    pub(super) fn new(shutdown: CancellationToken) -> Self {
        Session { shutdown, ended: CancellationToken::new() }
    }

    /// Ends the session for all of its lanes.
    pub(super) fn end(&self) {
        self.ended.cancel();
    }

    /// Waits until the worker has to stop.
    pub(super) async fn shutdown(&self) {
        self.shutdown.cancelled().await;
    }

    /// Waits until the session has ended.
    pub(super) async fn ended(&self) -> SessionLost {
        self.ended.cancelled().await;
        SessionLost::Ended
    }

    /// Returns whether the worker has to stop.
    pub(super) fn is_shutting_down(&self) -> bool {
        self.shutdown.is_cancelled()
    }

    /// Returns whether the lane should not start anything that takes time.
    pub(super) fn is_over(&self) -> bool {
        self.shutdown.is_cancelled() || self.ended.is_cancelled()
    }

    /// Sleeps, unless the worker has to stop or the session ends first.
    pub(super) async fn sleep(&self, duration: Duration) -> Result<(), Stop> {
        tokio::select! {
            () = self.shutdown.cancelled() => Err(Stop),
            () = self.ended.cancelled() => Err(Stop),
            () = tokio::time::sleep(duration) => Ok(()),
        }
    }

    /// Waits for the broker's answer, but not longer than the session lasts.
    pub(super) async fn unless_ended<T, E: Into<SessionLost>>(
        &self,
        answer: impl Future<Output = Result<T, E>>,
    ) -> Result<T, SessionLost> {
        tokio::select! {
            biased;
            answered = answer => answered.map_err(Into::into),
            lost = self.ended() => Err(lost),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_sleep_ends_with_the_session_and_with_the_worker() {
        let shutdown = CancellationToken::new();
        let session = Session::new(shutdown.clone());
        assert!(session.sleep(Duration::ZERO).await.is_ok() && !session.is_over());
        session.end();
        assert!(session.sleep(Duration::from_secs(3600)).await.is_err());
        assert!(session.is_over() && !session.is_shutting_down());

        let session = Session::new(shutdown.clone());
        shutdown.cancel();
        assert!(session.sleep(Duration::from_secs(3600)).await.is_err());
        assert!(session.is_shutting_down());
    }

    #[tokio::test]
    async fn an_answer_that_is_there_counts_also_in_a_session_that_has_ended() {
        let session = Session::new(CancellationToken::new());
        session.end();
        let answer = session.unless_ended(async { Ok::<_, SessionLost>(1) }).await;
        assert!(matches!(answer, Ok(1)));
        let never = session.unless_ended(std::future::pending::<Result<(), SessionLost>>()).await;
        assert!(matches!(never, Err(SessionLost::Ended)));
    }
}
