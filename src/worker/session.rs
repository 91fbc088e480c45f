//! The end of a session, as everything that hangs on it sees it.

use std::future::Future;

use tokio_util::sync::CancellationToken;

use crate::amqp::AmqpError;

/// The channel, or the connection under it, is gone.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionLost {
    /// The connection says why.
    #[error(transparent)]
    Broker(#[from] AmqpError),
    /// Another lane's failure ended the session.
    #[error("the session ended")]
    Ended,
}

/// Waits for the broker's answer, but not in a session that has ended.
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
