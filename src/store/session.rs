//! The one reconnecting database session: it connects on demand, runs one step at a time within a time limit, closes a
//! connection whose state is in doubt, and cancels a step that timed out.
//!
//! The worker and retention own a [`Session`]; reads share a pool, whose connections are closed by the same [`discard`].

use std::ops::Deref;
use std::time::Duration;

use tokio_postgres::{CancelToken, Client};

use super::endpoint::DatabaseEndpoint;
use super::failure::{FailureClass, Hold, StoreFailure};

/// Time that the server has to stop a step that nothing waits for, before its connection is closed anyway.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// A session of one owner. `S` is what belongs to one connection and ends with it, such as prepared statements.
#[derive(Debug)]
pub(super) struct Session<S = ()> {
    database: DatabaseEndpoint,
    open: Option<Open<S>>,
    /// Set from the first connection on.
    connected_before: bool,
    reconnected: bool,
}

#[derive(Debug)]
struct Open<S> {
    client: Client,
    state: S,
}

impl<S: Default> Session<S> {
    /// Returns a session that is not connected yet.
    pub(super) fn new(database: DatabaseEndpoint) -> Self {
        Session { database, open: None, connected_before: false, reconnected: false }
    }

    /// Runs one step within `limit`, after connecting within `limit` where there is no connection. The connection is kept only if
    /// the step ended and its failure says nothing about the session; it is closed too where the caller drops the future.
    ///
    /// # Errors
    /// As the step, or as connecting; a timeout where `limit` has passed.
    pub(super) async fn run<T>(
        &mut self,
        limit: Duration,
        step: impl AsyncFnOnce(&Client, &mut S) -> Result<T, StoreFailure>,
    ) -> Result<T, StoreFailure> {
        let mut open = match self.open.take() {
            Some(open) if !open.client.is_closed() => open,
            _ => self.connect(limit).await?,
        };
        let ended = tokio::time::timeout(limit, step(&open.client, &mut open.state)).await.ok();
        match After::of(ended.as_ref()) {
            After::Keep => self.open = Some(open),
            After::Close => drop(open),
            After::Cancel => {
                let token = open.client.cancel_token();
                tokio::spawn(discard(self.database.clone(), token, Box::new(open.client), drop));
            }
        }
        ended.unwrap_or_else(|| Err(StoreFailure::timeout(limit)))
    }

    /// Runs `work` in one transaction that begins with the statements `begin`. The server ends each statement at `statement_timeout`,
    /// of which zero is none; `statements` of them bound the whole, for a server that does not answer at all.
    ///
    /// # Errors
    /// As [`Session::run`]; the connection is closed then, because a transaction may be open on it.
    pub(super) async fn transaction<T>(
        &mut self,
        begin: &str,
        statement_timeout: Duration,
        statements: u32,
        work: impl AsyncFnOnce(&Client) -> Result<T, StoreFailure>,
    ) -> Result<T, StoreFailure> {
        let milliseconds = statement_timeout.as_millis();
        let limit = match statement_timeout {
            Duration::ZERO => Duration::MAX,
            timeout => timeout.saturating_mul(statements),
        };
        let set_up = format!("{begin}; set local statement_timeout = {milliseconds}");
        let done = self.run(limit, async |client, _| {
            client.batch_execute(&set_up).await?;
            let done = work(client).await?;
            client.batch_execute("commit").await?;
            Ok(done)
        });
        let done = done.await;
        if done.is_err() {
            self.close();
        }
        done
    }

    /// Closes the connection, for an owner that does not want to keep it after a failure.
    pub(super) fn close(&mut self) {
        self.open = None;
    }

    /// Returns whether a lost connection was made again since the last call.
    pub(super) fn reconnected(&mut self) -> bool {
        std::mem::take(&mut self.reconnected)
    }

    async fn connect(&mut self, limit: Duration) -> Result<Open<S>, StoreFailure> {
        let client = self.database.connect_within(limit).await?;
        self.reconnected |= std::mem::replace(&mut self.connected_before, true);
        Ok(Open { client, state: S::default() })
    }
}

/// End of a connection's use by one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum After {
    /// The next step uses it too.
    Keep,
    /// Its state is in doubt.
    Close,
    /// The server may still be running the step.
    Cancel,
}

impl After {
    /// Decides about the connection of a step that ended, or timed out (`None`).
    fn of<T>(ended: Option<&Result<T, StoreFailure>>) -> Self {
        match ended {
            None => After::Cancel,
            Some(Err(failure)) if !keeps_the_session(failure) => After::Close,
            Some(_) => After::Keep,
        }
    }
}

/// Returns whether the connection can be reused after this failure. A failure that is not the data's may come from a setting that
/// the session took over at login and that a new one would not have: read-only, a search path, a timeout.
fn keeps_the_session(failure: &StoreFailure) -> bool {
    match failure.class {
        FailureClass::Data | FailureClass::Unknown => failure.sqlstate.is_some(),
        FailureClass::Held(hold) => matches!(hold, Hold::Serialization | Hold::Deadlock),
    }
}

/// Cancels what a connection is doing, waits until the server has stopped, and closes the connection with `close`.
pub(super) async fn discard<C: Deref<Target = Client>>(
    database: DatabaseEndpoint,
    token: CancelToken,
    connection: C,
    close: impl FnOnce(C),
) {
    let stop = async {
        database.cancel(&token).await;
        connection.batch_execute("rollback").await
    };
    // The connection is closed in any case.
    let _ = tokio::time::timeout(STOP_TIMEOUT, stop).await;
    close(connection);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::failure::classify;

    fn after(sqlstate: Option<&str>) -> After {
        let class = sqlstate.map_or(FailureClass::Held(Hold::Connection), classify);
        let failure = StoreFailure {
            class,
            sqlstate: sqlstate.map(str::to_owned),
            message: String::new(),
            object: None,
            about_row: false,
            hint: None,
        };
        After::of::<()>(Some(&Err(failure)))
    }

    #[test]
    fn a_connection_is_kept_after_success_and_after_failures_of_the_data() {
        assert_eq!(After::of(Some(&Ok(()))), After::Keep);
        for sqlstate in ["22P05", "23505", "P0001", "40001", "40P01"] {
            assert_eq!(after(Some(sqlstate)), After::Keep, "{sqlstate}");
        }
    }

    #[test]
    fn a_connection_in_doubt_is_closed() {
        for sqlstate in ["25006", "42501", "42P01", "57014", "57P01", "53100", "26000", "0A000"] {
            assert_eq!(after(Some(sqlstate)), After::Close, "{sqlstate}");
        }
        assert_eq!(after(None), After::Close, "no answer of the server");
        let unreadable = StoreFailure::unreadable("x");
        assert_eq!(After::of::<()>(Some(&Err(unreadable))), After::Close, "not an answer of the server");
    }

    #[test]
    fn a_step_that_timed_out_is_cancelled() {
        assert_eq!(After::of::<()>(None), After::Cancel);
    }

    #[tokio::test]
    async fn a_failed_connection_is_not_a_reconnection() {
        // Port 1 of the loopback address: nothing listens there.
        let database = DatabaseEndpoint::from_url("postgres://u@127.0.0.1:1/d").unwrap();
        let mut session = Session::<()>::new(database);
        let failed = session.run(Duration::from_secs(5), async |_, ()| Ok(())).await.unwrap_err();
        assert_eq!(failed.class, FailureClass::Held(Hold::Connection));
        assert!(!session.reconnected());
    }
}
