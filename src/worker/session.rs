//! The end of a session, as everything that hangs on it sees it.

use std::future::Future;

use tokio_util::sync::CancellationToken;

/// The channel, or the connection under it, is gone.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionLost {
    /// The client library says why.
    #[error(transparent)]
    Broker(#[from] lapin::Error),
    /// The broker ended the consumer: its queue was deleted, or moved.
    #[error("the broker cancelled the consumer (was the queue deleted?)")]
    Cancelled,
    /// The channel was gone when an ack was sent.
    #[error("an ack was lost with its channel")]
    AckLost,
    /// The connection failed under this lane, or another lane's failure ended the session.
    #[error("the session ended")]
    Ended,
}

/// Waits for the broker's answer, but not on a connection that has failed: the client library may never
/// resolve what was asked on it.
pub(super) async fn unless_ended<T, E: Into<SessionLost>>(
    session: &CancellationToken,
    asked: impl Future<Output = Result<T, E>>,
) -> Result<T, SessionLost> {
    tokio::select! {
        biased;
        answered = asked => answered.map_err(Into::into),
        () = session.cancelled() => Err(SessionLost::Ended),
    }
}
