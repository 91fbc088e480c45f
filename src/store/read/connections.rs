//! The connection pool, and the transaction of every read.

use std::time::Duration;

use deadpool::managed::{self, Metrics, Object, Pool, PoolError, RecycleError, RecycleResult};
use futures_util::future::try_join3;
use tokio::sync::oneshot;
use tokio_postgres::Client;

use super::scope::AccessScope;
use crate::store::endpoint::DatabaseEndpoint;
use crate::store::failure::StoreFailure;
use crate::store::session;
use crate::store::unreached::ConnectError;

/// Pool of connections, which are opened on demand and kept.
#[derive(Clone, Debug)]
pub(super) struct Connections {
    pool: Pool<Opener>,
    timeout: Duration,
}

/// Planner settings of every read. A plan is made for the actual values: a page of a large BOM needs another plan than a page of a
/// small one. Bitmap and sequential scans are off: the planner takes BOM and tenant for independent, expects few rows of a large
/// BOM, and would read and sort all of them (82 ms for 10,000) where an index has the first 100 in order (0.7 ms).
const PLANNER_SETTINGS: &str = "set local plan_cache_mode = force_custom_plan; set local enable_bitmapscan = off; \
                     set local enable_seqscan = off";

/// Early end of a transaction.
pub(super) enum Stopped<T> {
    /// The rest of the rows is not needed.
    Enough(T),
    /// A statement failed.
    Failed(StoreFailure),
}

impl<T, E: Into<StoreFailure>> From<E> for Stopped<T> {
    fn from(error: E) -> Self {
        Stopped::Failed(error.into())
    }
}

impl Connections {
    pub(super) fn new(database: DatabaseEndpoint, max_size: usize, timeout: Duration) -> Self {
        // PostgreSQL takes a timeout of 0 for none, and refuses more than 31 bits.
        let timeout = timeout.clamp(Duration::from_millis(1), Duration::from_millis(i32::MAX as u64));
        // A little shorter than the wait for a connection: the error that names the server comes first.
        let opener = Opener { database, limit: timeout - timeout / 10 };
        // Building fails only for a pool with timeouts and without a runtime. This pool has no timeouts.
        let pool = Pool::builder(opener).max_size(max_size.max(1)).build();
        #[allow(clippy::expect_used)]
        let pool = pool.expect("a pool without timeouts can be built");
        Connections { pool, timeout }
    }

    /// Runs `work` in a read-only transaction with one snapshot as `scope`. Set-up, work and commit are sent together, and the server
    /// answers them in this order. The result of the work is used only if the set-up succeeded; otherwise the error of the set-up is returned.
    pub(super) async fn transaction<T>(
        &self,
        scope: &AccessScope,
        work: impl AsyncFnOnce(&Client) -> Result<T, Stopped<T>>,
    ) -> Result<T, StoreFailure> {
        let timeout = self.timeout.as_millis();
        // The wait for a connection has its own timeout, because other reads cause it.
        let mut leased = Box::pin(self.lease()).await?;
        let within = tokio::time::timeout(self.timeout, async {
            let begin = format!(
                "begin isolation level repeatable read, read only; set local statement_timeout = {timeout}; {PLANNER_SETTINGS}; {}",
                scope.set_up()
            );
            let client = leased.client();
            let (begun, has_begun) = oneshot::channel();
            let done = try_join3(
                async {
                    client.batch_execute(&begin).await?;
                    let _ = begun.send(()); // the receiver is gone only if the work failed
                    Ok(())
                },
                async {
                    let worked = work(client).await;
                    match has_begun.await {
                        Ok(()) => worked,
                        Err(_) => std::future::pending().await, // the error of the set-up ends all three
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

    pub(super) fn max_size(&self) -> usize {
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
struct Opener {
    database: DatabaseEndpoint,
    /// Maximum time that connecting takes.
    limit: Duration,
}

impl managed::Manager for Opener {
    type Type = Client;
    type Error = ConnectError;

    async fn create(&self) -> Result<Client, ConnectError> {
        self.database.connect_within(self.limit).await
    }

    async fn recycle(&self, client: &mut Client, _: &Metrics) -> RecycleResult<ConnectError> {
        if client.is_closed() { Err(RecycleError::message("closed")) } else { Ok(()) }
    }
}

/// A connection in use.
///
/// It returns to the pool only if its transaction ended. After an error, a timeout or a dropped future it is closed, so that the
/// next caller cannot get a transaction with another tenant's claims.
struct Leased {
    object: Option<Object<Opener>>,
    ended: bool,
}

impl Leased {
    fn client(&self) -> &Client {
        #[allow(clippy::expect_used)] // only `drop` takes it out
        self.object.as_ref().expect("the connection is there until the drop")
    }
}

impl Drop for Leased {
    fn drop(&mut self) {
        let Some(object) = self.object.take().filter(|_| !self.ended) else { return };
        let (database, runtime) = (Object::pool(&object), tokio::runtime::Handle::try_current());
        let (Some(pool), Ok(runtime)) = (database, runtime) else { return drop(Object::take(object)) };
        // The pool's slot stays taken until the server has stopped the statement, so that callers who leave do not cause more
        // connections than the pool's size.
        let token = object.cancel_token();
        runtime.spawn(session::discard(pool.manager().database.clone(), token, object, |object| {
            drop(Object::take(object))
        }));
    }
}
