//! The worker's access to the table: one session and three statements.

use std::time::{Duration, Instant};

use tokio_postgres::Client;

use super::endpoint::DatabaseEndpoint;
use super::failure::{FailureClass, Hold, StoreFailure};
use super::insert::{Columns, Row};
use super::on_duplicate::{DuplicateHistory, OnDuplicate};
use super::pending_list::{self, PendingList};
use super::session::Session;
use super::statement::Prepared;
use crate::event::Event;

/// SQLSTATE `unique_violation`: a row of the batch is in the table.
const UNIQUE_VIOLATION: &str = "23505";

/// Reason why a row is not stored although no other row has its `event_id`.
const LEFT_OUT: &str =
    "the table leaves the row out: a unique constraint other than that of event_id, or a trigger";

/// An event that was in the table already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Duplicate {
    /// Index of the row in the batch, from 0.
    pub index: usize,
    /// Digest of the stored row, 64 hexadecimal digits.
    pub stored: String,
    /// Digest of the received row.
    pub received: String,
    /// Set where the stored row belongs to the same tenant.
    pub same_tenant: bool,
}

impl Duplicate {
    /// Returns whether the stored row differs: two different events have the same `event_id`.
    #[must_use]
    pub fn conflicts(&self) -> bool {
        self.stored != self.received
    }
}

/// Stores batches over one session, which reconnects on demand.
#[derive(Debug)]
pub struct Writer {
    session: Session<Statements>,
    timeout: Duration,
    /// Limit of an insert where it is shorter than `timeout`.
    insert_limit: Option<Duration>,
    prepare: bool,
    duplicates: DuplicateHistory,
    pending_list: PendingList,
}

impl Writer {
    /// Returns a writer that is not connected yet. `timeout` bounds every step; `prepare` is false behind a pooler that assigns each
    /// transaction to another server connection.
    #[must_use]
    pub fn new(database: DatabaseEndpoint, timeout: Duration, prepare: bool) -> Self {
        Writer {
            session: Session::new(database),
            timeout,
            insert_limit: None,
            prepare,
            duplicates: DuplicateHistory::default(),
            pending_list: PendingList::default(),
        }
    }

    /// Sets a limit for inserts that is shorter than the timeout, or none.
    pub fn limit_inserts(&mut self, limit: Option<Duration>) {
        self.insert_limit = limit;
    }

    /// Stores the rows that are not in the table yet, in one statement that is its own transaction. The rows must be sorted by
    /// `event_id`, so that two writers never wait for each other in a circle.
    ///
    /// Returns the number of new rows.
    ///
    /// # Errors
    /// Either nothing of the batch is stored, or all of it and only the answer was lost.
    pub async fn insert(&mut self, rows: &[Row<'_>]) -> Result<usize, StoreFailure> {
        let columns = Columns::of(rows);
        let limit = self.pending_list.limit(rows.len(), Instant::now());
        let on_duplicate = self.duplicates.choose();
        let stored = match self.try_insert(&columns, on_duplicate, limit).await {
            Err(failure)
                if on_duplicate == OnDuplicate::Fail
                    && failure.sqlstate.as_deref() == Some(UNIQUE_VIOLATION) =>
            {
                self.duplicates.failed();
                self.try_insert(&columns, OnDuplicate::Skip, limit).await?
            }
            stored => stored?,
        };
        self.duplicates.stored(stored, rows.len());
        Ok(stored)
    }

    async fn try_insert(
        &mut self,
        columns: &Columns<'_>,
        on_duplicate: OnDuplicate,
        pending_list_limit: &'static str,
    ) -> Result<usize, StoreFailure> {
        let prepare = self.prepare;
        let limit = self.insert_limit.map_or(self.timeout, |limit| limit.min(self.timeout));
        let stored = self
            .session
            .run(limit, async |client, statements| {
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

    /// Returns the rows of a batch whose `event_id` is in the table under another row id.
    ///
    /// # Errors
    /// As [`Writer::insert`]; also where a row was left out of the table and its `event_id` is not the reason.
    pub async fn duplicates(&mut self, rows: &[Row<'_>]) -> Result<Vec<Duplicate>, StoreFailure> {
        let prepare = self.prepare;
        let columns = Columns::of(rows);
        let found = self
            .run(async |client, statements| {
                statements.duplicates.rows(client, columns.duplicates(), prepare).await
            })
            .await?;
        found
            .into_iter()
            .map(|row| {
                Ok(Duplicate {
                    index: usize::try_from(row.get::<_, i64>(0) - 1).unwrap_or_default(),
                    stored: row
                        .get::<_, Option<String>>(1)
                        .ok_or_else(|| StoreFailure::unexpected(LEFT_OUT))?,
                    same_tenant: row.get::<_, Option<bool>>(2).unwrap_or(true),
                    received: row.get(3),
                })
            })
            .collect()
    }

    /// Checks that a batch could be stored now: inserts a row, looks it up and rolls it back, by the same two statements. A ping
    /// would also succeed on a server that is read-only or full, and another insert where a column or a privilege is missing. The
    /// probe never merges the pending list, which could take longer than the timeout.
    ///
    /// # Errors
    /// The reason why not.
    pub async fn probe(&mut self) -> Result<(), StoreFailure> {
        self.try_row(Row::probe()).await
    }

    /// Checks as [`Writer::probe`], with a row like that of an event.
    ///
    /// # Errors
    /// The reason why not.
    pub async fn probe_like(&mut self, event: Event<'_>) -> Result<(), StoreFailure> {
        self.try_row(Row::probe_like(event)).await
    }

    /// Inserts a row, looks it up and rolls it back.
    async fn try_row(&mut self, row: Row<'_>) -> Result<(), StoreFailure> {
        let prepare = self.prepare;
        let rows = [row];
        let columns = Columns::of(&rows);
        self.run(async |client, statements| {
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

    /// Returns whether a lost connection was made again since the last call.
    pub fn reconnected(&mut self) -> bool {
        self.session.reconnected()
    }

    /// Checks that the server answers.
    ///
    /// # Errors
    /// The reason why not.
    pub async fn ping(&mut self) -> Result<(), StoreFailure> {
        self.run(async |client, _| Ok(client.check_connection().await?)).await
    }

    async fn run<T>(
        &mut self,
        step: impl AsyncFnOnce(&Client, &mut Statements) -> Result<T, StoreFailure>,
    ) -> Result<T, StoreFailure> {
        self.session.run(self.timeout, step).await
    }
}

/// Statements of a writer, prepared on its connection.
#[derive(Debug, Default)]
struct Statements {
    insert: Prepared,
    /// The insert that a duplicate fails.
    insert_new: Prepared,
    duplicates: Prepared,
}
