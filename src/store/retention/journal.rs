//! Retention of the journal, and what it says about readers that are behind.

use chrono::{DateTime, TimeDelta, Utc};
use diesel::sql_types::{Array, BigInt, Text, Timestamptz};

use super::delete::{Pruner, UNREAD_BY, rows, unread_from};
use crate::store::failure::StoreFailure;
use crate::store::statement::Typed;

/// Age from which rows of the journal are deleted: a client that was away for longer begins anew.
pub const JOURNAL_DAYS: i64 = 7;

/// Rows of the journal that one transaction deletes.
const BATCH_ROWS: u32 = 5000;

/// Events that are kept because the summaries are behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    /// Time of the oldest of them; `None` where it is not known.
    pub from: Option<DateTime<Utc>>,
    /// Time up to which the summaries are complete.
    pub as_of: Option<DateTime<Utc>>,
    /// Time by the database's clock.
    pub now: DateTime<Utc>,
}

impl Held {
    /// Returns whether that is no passing delay: the task that keeps the summaries does not run.
    #[must_use]
    pub fn lasts(&self) -> bool {
        self.as_of.is_none_or(|as_of| self.now - as_of > TimeDelta::hours(1))
    }
}

impl Pruner {
    /// Returns the events before the cutoff that are kept because the summaries are behind; `None` where there are none.
    ///
    /// # Errors
    /// The failure of the statement.
    pub async fn held(&mut self) -> Result<Option<Held>, StoreFailure> {
        let query = format!(
            "select nullif(unread, '-infinity'), (select min(nullif(as_of, '-infinity')) from enrichment_positions), now() \
             from (select {} as unread) u where unread < $1 and exists (\
               select id from enrichment_events where created_at < $1 and created_at >= unread order by created_at limit 1)",
            unread_from()
        );
        let held = Typed::of(&diesel::sql_query(query).bind::<Timestamptz, _>(self.before))?;
        let found =
            self.transaction(self.statement_timeout, async |client| rows(&held, client).await).await?;
        Ok(found.first().map(|row| Held { from: row.get(0), as_of: row.get(1), now: row.get(2) }))
    }

    /// Gives up the positions that have not taken in events before the cutoff: what they feed begins anew. Returns their number.
    ///
    /// # Errors
    /// The failure of the statement.
    pub async fn give_up_positions(&mut self) -> Result<u64, StoreFailure> {
        let delete =
            format!("delete from enrichment_positions p using pg_control_system() c where {UNREAD_BY} < $1");
        let delete = Typed::of(&diesel::sql_query(delete).bind::<Timestamptz, _>(self.before))?;
        self.transaction(self.statement_timeout, async |client| delete.execute(client).await).await
    }

    /// Deletes rows of the journal that are older than [`JOURNAL_DAYS`] and that every internal position has taken in, and records up to
    /// where. Returns their number, and whether there may be more.
    ///
    /// # Errors
    /// The failure of a statement: nothing of this batch is deleted then.
    pub async fn delete_journal_batch(&mut self) -> Result<(u64, bool), StoreFailure> {
        // By the primary key, whose order is that of the time more or less: where none of the oldest rows is old enough, none is.
        let find = format!(
            "select j.seq, j.xact::text from (select seq, xact, stored_at from enrichment_journal order by seq limit {BATCH_ROWS}) j \
             where j.stored_at < now() - interval '{JOURNAL_DAYS} days' and not exists (select from enrichment_positions p, \
               pg_control_system() c where p.system_identifier <> c.system_identifier or not pg_visible_in_snapshot(j.xact, p.passed))"
        );
        let find = Typed::of(&diesel::sql_query(find))?;
        let delete = "with deleted as (delete from enrichment_journal where seq = any ($1) returning xact) \
            select count(*) from deleted";
        let record = "update enrichment_journal_state set journal_pruned_to = \
            greatest(journal_pruned_to::text::numeric, (select max(x::numeric) from unnest($1) x))::text::xid8";
        self.transaction(self.statement_timeout, async |client| {
            let found = rows(&find, client).await?;
            if found.is_empty() {
                return Ok((0, false));
            }
            let seqs: Vec<i64> = found.iter().map(|row| row.get(0)).collect();
            let transactions: Vec<String> = found.iter().map(|row| row.get(1)).collect();
            let delete = Typed::of(&diesel::sql_query(delete).bind::<Array<BigInt>, _>(seqs))?;
            let deleted: i64 = rows(&delete, client).await?.first().map_or(0, |row| row.get(0));
            let record = Typed::of(&diesel::sql_query(record).bind::<Array<Text>, _>(transactions))?;
            record.execute(client).await?;
            Ok((deleted.unsigned_abs(), found.len() == BATCH_ROWS as usize))
        })
        .await
    }

    /// Deletes summaries of what ended before a time, a limited number of rows. Returns their number, and whether there may be more.
    ///
    /// # Errors
    /// The failure of a statement: nothing of this batch is deleted then.
    pub async fn delete_summaries_batch(
        &mut self,
        before: DateTime<Utc>,
    ) -> Result<(u64, bool), StoreFailure> {
        const LIMIT: u32 = 1000;
        let hours = |table: &str| {
            format!(
                "delete from {table} where (tenant_id, hour) in (select distinct tenant_id, hour from {table} \
                 where hour < date_trunc('hour', $1 at time zone 'UTC') at time zone 'UTC' limit {LIMIT})"
            )
        };
        let ended = format!(
            "(select tenant_id, workflow_id, bom_id from workflow_runs where last_at < $1 order by last_at, tenant_id limit {LIMIT})"
        );
        let of_runs =
            |table: &str| format!("delete from {table} where (tenant_id, workflow_id, bom_id) in {ended}");
        // Part numbers before the workflows by which they are found.
        let statements = [
            hours("event_counts"),
            hours("stage_times"),
            of_runs("workflow_parts"),
            of_runs("workflow_runs"),
        ];
        let statements =
            statements.map(|sql| Typed::of(&diesel::sql_query(sql).bind::<Timestamptz, _>(before)));
        self.transaction(self.statement_timeout, async |client| {
            let mut deleted = 0;
            for statement in statements {
                deleted += statement?.execute(client).await?;
            }
            Ok((deleted, deleted > 0))
        })
        .await
    }
}
