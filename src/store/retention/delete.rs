//! The transactions of retention: the oldest event, the number of old events, and one batch of deletions.
//!
//! Each is one short transaction as `cns_events_retention`, whatever login the connection has: a role that sees a row's id and age,
//! and may delete it. Batches follow the index of ages from the end of the last batch, so that deleted rows are not read again.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::pg::Pg;
use diesel::prelude::*;
use futures_util::TryStreamExt;
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use crate::store::endpoint::DatabaseEndpoint;
use crate::store::failure::StoreFailure;
use crate::store::schema::enrichment_events as t;
use crate::store::session::Session;
use crate::store::statement::Typed;

/// Role that every transaction of retention runs as.
pub const ROLE: &str = "cns_events_retention";

/// Statements of a transaction: set-up, select, delete, commit.
const STATEMENTS: u32 = 4;

/// Deletes events that are older than a moment. A batch that failed can be retried: no younger event is ever deleted.
#[derive(Debug)]
pub struct Pruner {
    session: Session,
    statement_timeout: Duration,
    before: DateTime<Utc>,
    /// Age at which the last batch ended.
    from: Option<DateTime<Utc>>,
}

/// One deleted batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batch {
    /// Number of deleted rows.
    pub rows: u64,
    /// Time before which no event is left.
    pub up_to: DateTime<Utc>,
}

/// Returns the time of the database's clock.
///
/// # Errors
/// The failure of the connection or the statement.
pub async fn now(database: &DatabaseEndpoint, timeout: Duration) -> Result<DateTime<Utc>, StoreFailure> {
    let mut session = Session::<()>::new(database.clone());
    let now = Typed::of(&diesel::select(diesel::dsl::now))?;
    let rows = session.run(timeout, async |client, ()| rows(&now, client).await).await?;
    Ok(rows.first().ok_or_else(|| StoreFailure::unexpected("no row"))?.get(0))
}

impl Pruner {
    /// Returns a pruner of the events created before `before`, which is not connected yet.
    #[must_use]
    pub fn new(database: DatabaseEndpoint, before: DateTime<Utc>, statement_timeout: Duration) -> Self {
        Pruner { session: Session::new(database), statement_timeout, before, from: None }
    }

    /// Returns the time of the oldest event to delete; `None` where there is none.
    ///
    /// # Errors
    /// The failure of the statement.
    pub async fn oldest(&mut self) -> Result<Option<DateTime<Utc>>, StoreFailure> {
        let oldest = Typed::of(&self.old().select((t::id, t::created_at)).order(t::created_at).limit(1))?;
        let rows =
            self.transaction(self.statement_timeout, async |client| rows(&oldest, client).await).await?;
        Ok(rows.first().map(|row| row.get(1)))
    }

    /// Returns the number of events to delete. It reads the index of all of them, without a time limit.
    ///
    /// # Errors
    /// The failure of the statement.
    pub async fn count(&mut self) -> Result<u64, StoreFailure> {
        let count = Typed::of(&self.old().count())?;
        let rows = self.transaction(Duration::ZERO, async |client| rows(&count, client).await).await?;
        let counted: i64 = rows.first().ok_or_else(|| StoreFailure::unexpected("no row"))?.get(0);
        Ok(u64::try_from(counted).unwrap_or_default())
    }

    /// Deletes the oldest of them, `max_rows` at most; `None` where none is left.
    ///
    /// # Errors
    /// The failure of a statement: nothing of this batch is deleted then, or all of it and only the answer was lost.
    pub async fn delete_batch(&mut self, max_rows: u32) -> Result<Option<Batch>, StoreFailure> {
        let oldest = Typed::of(
            &self.old().select((t::id, t::created_at)).order(t::created_at).limit(i64::from(max_rows)),
        )?;
        let batch = self
            .transaction(self.statement_timeout, async |client| {
                let found = rows(&oldest, client).await?;
                let Some(last) = found.last() else { return Ok(None) };
                let up_to = last.get(1);
                let ids: Vec<Uuid> = found.iter().map(|row| row.get(0)).collect();
                let delete = Typed::of(&diesel::delete(t::table.filter(t::id.eq_any(ids))))?;
                Ok(Some(Batch { rows: delete.execute(client).await?, up_to }))
            })
            .await?;
        if let Some(Batch { rows, up_to }) = batch {
            // Rows that another process deleted meanwhile are not found again.
            if rows == 0 && self.from == Some(up_to) {
                return Err(StoreFailure::unexpected(
                    "the table keeps rows that are deleted: it has a trigger or a policy of its own",
                ));
            }
            self.from = Some(up_to);
        }
        Ok(batch)
    }

    /// Selects the old events from the end of the last batch on, including its age: more rows may have that age.
    fn old(&self) -> t::BoxedQuery<'_, Pg> {
        let old = t::table.filter(t::created_at.lt(self.before)).into_boxed();
        match self.from {
            Some(from) => old.filter(t::created_at.ge(from)),
            None => old,
        }
    }

    /// Runs `work` in one transaction as [`ROLE`]; `statement_timeout` of zero is none.
    async fn transaction<T>(
        &mut self,
        statement_timeout: Duration,
        work: impl AsyncFnOnce(&Client) -> Result<T, StoreFailure>,
    ) -> Result<T, StoreFailure> {
        let milliseconds = statement_timeout.as_millis();
        // The server ends each statement at its own time. This bound is for a server that does not answer at all.
        let limit = match statement_timeout {
            Duration::ZERO => Duration::MAX,
            timeout => timeout.saturating_mul(STATEMENTS),
        };
        let done = self
            .session
            .run(limit, async |client, ()| {
                client
                    .batch_execute(&format!(
                        "begin; set local statement_timeout = {milliseconds}; set local role {ROLE}"
                    ))
                    .await?;
                let done = work(client).await?;
                client.batch_execute("commit").await?;
                Ok(done)
            })
            .await;
        if done.is_err() {
            // A transaction may be open on it.
            self.session.close();
        }
        done
    }
}

async fn rows(statement: &Typed, client: &Client) -> Result<Vec<Row>, StoreFailure> {
    Ok(statement.query(client).await?.try_collect().await?)
}
