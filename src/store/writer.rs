//! The worker's way to the table: one connection, and a few statements.

use std::future::Future;
use std::time::{Duration, Instant};

use tokio_postgres::Client;

use super::endpoint::DatabaseEndpoint;
use super::failure::{Failure, FailureClass, Hold};
use super::insert::{Columns, OnDuplicate, Row};
use super::pending_list::{self, PendingList};
use super::statement::Prepared;

/// How many new rows in a row make a duplicate unlikely enough for an insert that it fails (docs/adr/0010).
/// A failed one costs at most one batch in so many rows.
const ALL_NEW: usize = 20_000;

/// A row of the batch is in the table: `unique_violation`.
const UNIQUE_VIOLATION: &str = "23505";

/// Why a row is not stored though no other has its `event_id`.
const LEFT_OUT: &str =
    "the table leaves the row out: another unique constraint than that of event_id, or a trigger";

/// An event that was in the table already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Duplicate {
    /// Which row of the batch, from 0.
    pub index: usize,
    /// Digest of the stored row, 64 hexadecimal digits.
    pub stored: String,
    /// Digest of the row that came again.
    pub received: String,
}

impl Duplicate {
    /// Whether the stored row differs: the same `event_id` for two different events.
    #[must_use]
    pub fn conflicts(&self) -> bool {
        self.stored != self.received
    }
}

/// A connection that stores batches, made anew whenever it is needed and not there.
#[derive(Debug)]
pub struct Writer {
    database: DatabaseEndpoint,
    timeout: Duration,
    prepare: bool,
    client: Option<Client>,
    /// Whether there ever was a connection.
    known: bool,
    reconnected: bool,
    /// Rows stored since the last duplicate.
    new_rows: usize,
    pending_list: PendingList,
    statements: Statements,
}

impl Writer {
    /// A writer that is not connected yet. `timeout` bounds every statement; `prepare` is false behind a pooler
    /// that hands each transaction to another server connection.
    #[must_use]
    pub fn new(database: DatabaseEndpoint, timeout: Duration, prepare: bool) -> Self {
        Writer {
            database,
            timeout,
            prepare,
            client: None,
            known: false,
            reconnected: false,
            new_rows: 0,
            pending_list: PendingList::default(),
            statements: Statements::default(),
        }
    }

    /// Stores what is not stored yet, in one statement that is its own transaction. The rows must be sorted by
    /// `event_id`, so that two writers never wait for each other in a circle.
    ///
    /// Returns how many rows were new.
    ///
    /// # Errors
    /// Nothing of the batch is stored then, or all of it and only the answer was lost.
    pub async fn insert(&mut self, rows: &[Row<'_>]) -> Result<usize, Failure> {
        let columns = Columns::of(rows);
        let limit = self.pending_list.limit(rows.len(), Instant::now());
        let stored = if self.new_rows < ALL_NEW {
            self.try_insert(&columns, OnDuplicate::Skip, limit).await?
        } else {
            match self.try_insert(&columns, OnDuplicate::Fail, limit).await {
                Err(failure) if failure.sqlstate.as_deref() == Some(UNIQUE_VIOLATION) => {
                    self.new_rows = 0;
                    self.try_insert(&columns, OnDuplicate::Skip, limit).await?
                }
                stored => stored?,
            }
        };
        self.new_rows = if stored < rows.len() { 0 } else { self.new_rows.saturating_add(stored) };
        Ok(stored)
    }

    async fn try_insert(
        &mut self,
        columns: &Columns<'_>,
        on_duplicate: OnDuplicate,
        pending_list_limit: &'static str,
    ) -> Result<usize, Failure> {
        let prepare = self.prepare;
        let stored = self
            .bounded(async |client, statements| {
                let insert = match on_duplicate {
                    OnDuplicate::Skip => &mut statements.insert,
                    OnDuplicate::Fail => &mut statements.insert_new,
                };
                insert.execute(client, columns.insert(on_duplicate, pending_list_limit), prepare).await
            })
            .await
            .inspect_err(|failure| {
                if failure.class == FailureClass::Held(Hold::Timeout) {
                    self.pending_list.timed_out(Instant::now());
                }
            })?;
        Ok(usize::try_from(stored).unwrap_or(usize::MAX))
    }

    /// Which rows of a batch are in the table as somebody else's.
    ///
    /// # Errors
    /// As [`Writer::insert`]; also where a row was left out of the table and its `event_id` is not the reason.
    pub async fn duplicates(&mut self, rows: &[Row<'_>]) -> Result<Vec<Duplicate>, Failure> {
        let prepare = self.prepare;
        let columns = Columns::of(rows);
        let found = self
            .bounded(async |client, statements| {
                statements.duplicates.rows(client, columns.duplicates(), prepare).await
            })
            .await?;
        found
            .into_iter()
            .map(|row| {
                Ok(Duplicate {
                    index: usize::try_from(row.get::<_, i64>(0) - 1).unwrap_or_default(),
                    stored: row.get::<_, Option<String>>(1).ok_or_else(|| Failure::unexpected(LEFT_OUT))?,
                    received: row.get(2),
                })
            })
            .collect()
    }

    /// Whether a batch could be stored now: asks about a row, inserts it and rolls it back, by the same two
    /// statements. A ping would also succeed on a server that is read-only or full, and another insert where
    /// a column or a privilege is missing. It merges nothing: that could take longer than it may.
    ///
    /// # Errors
    /// Why not.
    pub async fn probe(&mut self) -> Result<(), Failure> {
        let prepare = self.prepare;
        let rows = [Row::probe()];
        let columns = Columns::of(&rows);
        self.bounded(async |client, statements| {
            client.batch_execute("begin").await?;
            let tried = async {
                let insert = columns.insert(OnDuplicate::Skip, pending_list::UNBOUNDED);
                statements.insert.execute(client, insert, prepare).await?;
                statements.duplicates.rows(client, columns.duplicates(), prepare).await.map(drop)
            };
            let tried = tried.await;
            client.batch_execute("rollback").await?;
            tried
        })
        .await
    }

    /// Whether a lost connection was made again since this was last asked.
    pub fn reconnected(&mut self) -> bool {
        std::mem::take(&mut self.reconnected)
    }

    /// Whether the server answers at all.
    ///
    /// # Errors
    /// Why not.
    pub async fn ping(&mut self) -> Result<(), Failure> {
        self.bounded(async |client, _| Ok(client.check_connection().await?)).await
    }

    /// Runs one step on the connection within the timeout. A connection that did not answer is given up: what
    /// state it is in need not be known.
    async fn bounded<T>(
        &mut self,
        step: impl AsyncFnOnce(&Client, &mut Statements) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let timeout = self.timeout;
        let client = match self.client.take() {
            Some(client) if !client.is_closed() => client,
            _ => {
                self.statements.forget();
                let client = within(timeout, async { Ok(self.database.connect().await?) }).await?;
                self.reconnected |= std::mem::replace(&mut self.known, true);
                client
            }
        };
        let token = client.cancel_token();
        match tokio::time::timeout(timeout, step(&client, &mut self.statements)).await {
            Ok(Ok(value)) => {
                self.client = Some(client);
                Ok(value)
            }
            Ok(Err(failure)) => {
                if failure.leaves_the_session() {
                    self.client = Some(client);
                }
                Err(failure)
            }
            Err(_) => {
                let database = self.database.clone();
                tokio::spawn(async move { database.cancel(&token).await });
                Err(Failure::timeout(timeout.as_millis()))
            }
        }
    }
}

/// The statements of a writer, prepared on its connection.
#[derive(Debug, Default)]
struct Statements {
    insert: Prepared,
    /// The insert that a duplicate fails.
    insert_new: Prepared,
    duplicates: Prepared,
}

impl Statements {
    fn forget(&mut self) {
        for statement in [&mut self.insert, &mut self.insert_new, &mut self.duplicates] {
            statement.forget();
        }
    }
}

async fn within<T>(timeout: Duration, step: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::time::timeout(timeout, step).await.unwrap_or_else(|_| Err(Failure::timeout(timeout.as_millis())))
}
