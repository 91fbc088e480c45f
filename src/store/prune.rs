//! Retention: events that are old enough are deleted, a batch at a time.
//!
//! Each batch is one short transaction as `cns_events_retention`, whatever login the connection has: a role that sees a row's id and
//! age, and may delete it. Batches go up the index of ages from where the last one ended, so that what has been deleted is not
//! passed again.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::pg::Pg;
use diesel::prelude::*;
use futures_util::TryStreamExt;
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use super::endpoint::DatabaseEndpoint;
use super::failure::Failure;
use super::schema::enrichment_events as t;
use super::statement::Typed;

/// The role that every batch is deleted as.
pub const ROLE: &str = "cns_events_retention";

/// Deletes events that are older than a moment. Nothing is deleted twice, and nothing younger: a batch that failed can be tried
/// again.
#[derive(Debug)]
pub struct Pruner {
    database: DatabaseEndpoint,
    client: Option<Client>,
    timeout: Duration,
    before: DateTime<Utc>,
    from: Option<DateTime<Utc>>,
}

/// One batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pruned {
    /// Rows that were deleted.
    pub rows: u64,
    /// Nothing older than this is left.
    pub up_to: DateTime<Utc>,
}

impl Pruner {
    /// Of events created before `before`. `timeout` bounds every statement. Connects when it has something to ask.
    #[must_use]
    pub fn new(database: DatabaseEndpoint, before: DateTime<Utc>, timeout: Duration) -> Self {
        Pruner { database, client: None, timeout, before, from: None }
    }

    /// When the oldest event that is to go was created; `None` where there is none.
    ///
    /// # Errors
    /// As the database gives them.
    pub async fn oldest(&mut self) -> Result<Option<DateTime<Utc>>, Failure> {
        let oldest = Typed::of(&self.old().select((t::id, t::created_at)).order(t::created_at).limit(1))?;
        let rows = self.ask(self.timeout, async |client| rows(&oldest, client).await).await?;
        Ok(rows.first().map(|row| row.get(1)))
    }

    /// How many events are to go. Reads the index of all of them, and takes the time that takes.
    ///
    /// # Errors
    /// As the database gives them.
    pub async fn count(&mut self) -> Result<u64, Failure> {
        let count = Typed::of(&self.old().count())?;
        let rows = self.ask(Duration::ZERO, async |client| rows(&count, client).await).await?;
        let counted: i64 = rows.first().ok_or_else(|| Failure::unexpected("no row"))?.get(0);
        Ok(u64::try_from(counted).unwrap_or_default())
    }

    /// Deletes the oldest `most` of them; `None` when none is left.
    ///
    /// # Errors
    /// As the database gives them; then nothing of this batch is deleted, or, where only the answer was lost, all of it.
    pub async fn batch(&mut self, most: u32) -> Result<Option<Pruned>, Failure> {
        let oldest = Typed::of(
            &self.old().select((t::id, t::created_at)).order(t::created_at).limit(i64::from(most)),
        )?;
        let batch = self
            .ask(self.timeout, async |client| {
                let found = rows(&oldest, client).await?;
                let Some(last) = found.last() else { return Ok(None) };
                let up_to = last.get(1);
                let ids: Vec<Uuid> = found.iter().map(|row| row.get(0)).collect();
                let delete = Typed::of(&diesel::delete(t::table.filter(t::id.eq_any(ids))))?;
                Ok(Some(Pruned { rows: delete.execute(client).await?, up_to }))
            })
            .await?;
        if let Some(Pruned { rows, up_to }) = batch {
            // What others deleted meanwhile is not found again.
            if rows == 0 && self.from == Some(up_to) {
                return Err(Failure::unexpected(
                    "the table keeps rows that are deleted: a trigger, or a policy of its own",
                ));
            }
            self.from = Some(up_to);
        }
        Ok(batch)
    }

    /// What is old enough and was not passed yet. More may have come with the age at which the last batch ended.
    fn old(&self) -> t::BoxedQuery<'_, Pg> {
        let old = t::table.filter(t::created_at.lt(self.before)).into_boxed();
        match self.from {
            Some(from) => old.filter(t::created_at.ge(from)),
            None => old,
        }
    }

    /// A transaction as the role; a connection that one failed on is not used again.
    async fn ask<T>(
        &mut self,
        timeout: Duration,
        work: impl AsyncFnOnce(&Client) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let client = match self.client.take() {
            Some(client) if !client.is_closed() => client,
            _ => self.database.connect().await?,
        };
        let milliseconds = timeout.as_millis();
        client
            .batch_execute(&format!(
                "begin; set local statement_timeout = {milliseconds}; set local role {ROLE}"
            ))
            .await?;
        let done = work(&client).await?;
        client.batch_execute("commit").await?;
        self.client = Some(client);
        Ok(done)
    }
}

async fn rows(question: &Typed, client: &Client) -> Result<Vec<Row>, Failure> {
    Ok(question.query(client).await?.try_collect().await?)
}
