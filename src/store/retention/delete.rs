//! The transactions of retention: the oldest event, the number of old events, and one batch of deletions.
//!
//! An event that is not in the summaries yet is not deleted: the condition on the journal stands in the statement that finds the
//! events, so that both are of one snapshot. Each is one short transaction as `cns_events_retention`, whatever login the connection has: a role that sees a row's id and age,
//! and may delete it. Batches follow the index of ages from the end of the last batch, so that deleted rows are not read again.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{Bool, Timestamptz};
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

/// Statements of a transaction: set-up, select, delete, record, commit.
const STATEMENTS: u32 = 5;

/// Time of the oldest event that the position `p` has not taken in, in the cluster `c`: of the rows of the journal that its snapshot
/// does not show, by index; `null` where there is none. A position of another cluster has taken in nothing.
pub(super) const UNREAD_BY: &str = "(case when p.system_identifier <> c.system_identifier then '-infinity'::timestamptz else least(\
      (select min(j.first_at) from enrichment_journal j where j.xact >= pg_snapshot_xmax(p.passed)), \
      (select min(j.first_at) from enrichment_journal j where j.xact = any (array(select pg_snapshot_xip(p.passed))))) end)";

/// Returns the expression for the same of all positions; `infinity` where there is none.
pub(super) fn unread_from() -> String {
    format!(
        "coalesce((select min({UNREAD_BY}) from enrichment_positions p, pg_control_system() c), 'infinity'::timestamptz)"
    )
}

/// Records that the events before a time, and some of that time, are deleted.
const RECORD: &str = "update enrichment_journal_state \
    set events_pruned_before = greatest(events_pruned_before, $1 + interval '1 microsecond')";

/// Deletes events that are older than a moment. A batch that failed can be retried: no younger event is ever deleted.
#[derive(Debug)]
pub struct Pruner {
    session: Session,
    pub(super) statement_timeout: Duration,
    pub(super) before: DateTime<Utc>,
    /// Set where events that are not in the summaries yet are deleted too.
    regardless: bool,
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
        Pruner { session: Session::new(database), statement_timeout, before, regardless: false, from: None }
    }

    /// Deletes events also where they are not in the summaries yet.
    #[must_use]
    pub fn regardless(self) -> Self {
        Pruner { regardless: true, ..self }
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
                let up_to: DateTime<Utc> = last.get(1);
                let ids: Vec<Uuid> = found.iter().map(|row| row.get(0)).collect();
                let delete = Typed::of(&diesel::delete(t::table.filter(t::id.eq_any(ids))))?;
                let rows = delete.execute(client).await?;
                // The summaries are verified against the events from here on.
                let record = diesel::sql_query(RECORD).bind::<Timestamptz, _>(up_to);
                Typed::of(&record)?.execute(client).await?;
                Ok(Some(Batch { rows, up_to }))
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
        let mut old = t::table.filter(t::created_at.lt(self.before)).into_boxed();
        if !self.regardless {
            old = old.filter(diesel::dsl::sql::<Bool>(&format!("created_at < {}", unread_from())));
        }
        match self.from {
            Some(from) => old.filter(t::created_at.ge(from)),
            None => old,
        }
    }

    /// Runs `work` in one transaction as [`ROLE`]; `statement_timeout` of zero is none.
    pub(super) async fn transaction<T>(
        &mut self,
        statement_timeout: Duration,
        work: impl AsyncFnOnce(&Client) -> Result<T, StoreFailure>,
    ) -> Result<T, StoreFailure> {
        let begin = format!("begin; set local role {ROLE}");
        self.session.transaction(&begin, statement_timeout, STATEMENTS, work).await
    }
}

pub(super) async fn rows(statement: &Typed, client: &Client) -> Result<Vec<Row>, StoreFailure> {
    Ok(statement.query(client).await?.try_collect().await?)
}
