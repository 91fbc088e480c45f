//! The pool, and the transaction that every read runs in.

use std::time::Duration;

use deadpool::managed::{self, Metrics, Object, Pool, PoolError, RecycleError, RecycleResult};
use futures_util::future::try_join3;
use tokio::sync::oneshot;
use tokio_postgres::Client;

use super::scope::AccessScope;
use crate::store::endpoint::{ConnectError, DatabaseEndpoint};
use crate::store::failure::StoreFailure;
use crate::store::session;

/// Connections that are opened when they are needed, and kept.
#[derive(Clone, Debug)]
pub(super) struct Connections {
    pool: Pool<Opener>,
    timeout: Duration,
}

/// How questions are planned. Each for its own values: a page of a large BOM wants another plan than that of a small one. Not by
/// bitmaps, nor by reading the table through: the planner takes a BOM and its tenant for independent, expects few rows of a large
/// BOM, and would gather and sort all of them (82 ms for 10,000) where the index has the first hundred in order (0.7 ms).
const PLANS: &str = "set local plan_cache_mode = force_custom_plan; set local enable_bitmapscan = off; \
                     set local enable_seqscan = off";

/// Why a transaction ended before its time.
pub(super) enum Stopped<T> {
    /// There is more, and this is enough: the rest is not waited for.
    Enough(T),
    /// It went wrong.
    Failed(StoreFailure),
}

impl<T, E: Into<StoreFailure>> From<E> for Stopped<T> {
    fn from(error: E) -> Self {
        Stopped::Failed(error.into())
    }
}

impl Connections {
    pub(super) fn new(database: DatabaseEndpoint, most: usize, timeout: Duration) -> Self {
        // A timeout of 0 is none for PostgreSQL, and one of more than 31 bits an error.
        let timeout = timeout.clamp(Duration::from_millis(1), Duration::from_millis(i32::MAX as u64));
        // It can only fail for timeouts without a runtime, and there are none here.
        let pool = Pool::builder(Opener(database)).max_size(most.max(1)).build();
        #[allow(clippy::expect_used)]
        let pool = pool.expect("a pool without timeouts can be built");
        Connections { pool, timeout }
    }

    /// Does `work` in a read-only transaction as `scope`. Set-up, work and commit are sent together, and the server answers
    /// them in their order. Nothing of the work is looked at before the set-up has succeeded: where it failed, its error is the
    /// answer, whatever the work found.
    pub(super) async fn transaction<T>(
        &self,
        scope: &AccessScope,
        work: impl AsyncFnOnce(&Client) -> Result<T, Stopped<T>>,
    ) -> Result<T, StoreFailure> {
        let timeout = self.timeout.as_millis();
        // Waiting for a connection has a time of its own: others' questions are not this one's fault.
        let mut leased = self.lease().await?;
        let within = tokio::time::timeout(self.timeout, async {
            let begin = format!(
                "begin isolation level read committed, read only; set local statement_timeout = {timeout}; {PLANS}; {}",
                scope.set_up()
            );
            let client = leased.client();
            let (begun, has_begun) = oneshot::channel();
            let done = try_join3(
                async {
                    client.batch_execute(&begin).await?;
                    let _ = begun.send(()); // the work listens, or is not there any more
                    Ok(())
                },
                async {
                    let worked = work(client).await;
                    match has_begun.await {
                        Ok(()) => worked,
                        Err(_) => std::future::pending().await, // the set-up's error ends everything
                    }
                },
                async { Ok(client.batch_execute("commit").await?) },
            )
            .await;
            match done {
                Ok(((), value, ())) => {
                    leased.ended = true;
                    Ok(value)
                }
                Err(Stopped::Enough(value)) => Ok(value),
                Err(Stopped::Failed(failure)) => Err(failure),
            }
        });
        within.await.unwrap_or_else(|_| Err(StoreFailure::timeout(self.timeout)))
    }

    pub(super) fn most(&self) -> usize {
        self.pool.status().max_size
    }

    async fn lease(&self) -> Result<Leased, StoreFailure> {
        let Ok(leased) = tokio::time::timeout(self.timeout, self.pool.get()).await else {
            return Err(StoreFailure::timeout(self.timeout));
        };
        match leased {
            Ok(object) => Ok(Leased { object: Some(object), ended: false }),
            Err(PoolError::Backend(error)) => Err(error.into()),
            Err(error) => Err(StoreFailure::unexpected(&error.to_string())),
        }
    }
}

/// Opens the pool's connections.
#[derive(Debug)]
struct Opener(DatabaseEndpoint);

impl managed::Manager for Opener {
    type Type = Client;
    type Error = ConnectError;

    async fn create(&self) -> Result<Client, ConnectError> {
        self.0.connect().await
    }

    async fn recycle(&self, client: &mut Client, _: &Metrics) -> RecycleResult<ConnectError> {
        if client.is_closed() { Err(RecycleError::message("closed")) } else { Ok(()) }
    }
}

/// A connection in use.
///
/// Only one whose transaction ended goes back to the pool. Whatever else happened (an error, a timeout, a caller who went
/// away in the middle) closes it: whoever comes next cannot meet a transaction with somebody else's claims.
struct Leased {
    object: Option<Object<Opener>>,
    ended: bool,
}

impl Leased {
    fn client(&self) -> &Client {
        #[allow(clippy::expect_used)] // it is taken out by the drop alone
        self.object.as_ref().expect("the connection is there until the drop")
    }
}

impl Drop for Leased {
    fn drop(&mut self) {
        let Some(object) = self.object.take().filter(|_| !self.ended) else { return };
        let (database, runtime) = (Object::pool(&object), tokio::runtime::Handle::try_current());
        let (Some(pool), Ok(runtime)) = (database, runtime) else { return drop(Object::take(object)) };
        // The slot of the pool stays taken until the server has stopped, so that callers who leave never cause more connections
        // than the pool may have.
        let token = object.cancel_token();
        runtime.spawn(session::discard(pool.manager().0.clone(), token, object, |object| {
            drop(Object::take(object))
        }));
    }
}
