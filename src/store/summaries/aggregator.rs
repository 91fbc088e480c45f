//! The one writer of the summaries.

use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio_postgres::Client;
use uuid::Uuid;

use super::fill::{self, Filled};
use super::verify::{self, Verified};
use super::{apply, events, position};
use crate::store::endpoint::DatabaseEndpoint;
use crate::store::failure::StoreFailure;
use crate::store::journal::{self, Look, Looked, ResetReason};
use crate::store::session::Session;
use crate::summaries::{NamedTypes, Sums};

/// Role that every transaction of the writer runs as.
pub const ROLE: &str = "cns_events_aggregate";

/// Advisory lock of the writer, held for one transaction: "cns-aggr" in ASCII.
const LOCK: i64 = 0x636e_732d_6167_6772;

/// Rows of the journal that one round takes in.
const ROUND_ROWS: u32 = 200;

/// Ids that are read by one statement.
const IDS: usize = 5000;

/// Pause between two attempts to take the lock, for a command that waits for it.
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// Statements that a round may send, for the bound on its whole time.
const STATEMENTS: u32 = 16;

/// Settings of the planner: everything is found by index, however little the planner knows of young tables.
const PLANNER_SETTINGS: &str = "set local plan_cache_mode = force_custom_plan; set local enable_seqscan = off; \
    set local enable_hashjoin = off; set local enable_mergejoin = off";

/// Keeps the summaries. Several may run, anywhere: one at a time has the lock.
#[derive(Debug)]
pub struct Aggregator {
    session: Session,
    statement_timeout: Duration,
    named: NamedTypes,
}

/// Result of a round.
#[derive(Clone, Debug)]
pub enum Round {
    /// Another process is at work.
    Busy,
    /// The summaries begin anew with [`Aggregator::fill`]: there is no position, or it cannot be continued.
    NeedsFill(Option<ResetReason>),
    /// New rows of the journal were taken in, or there were none.
    Folded(Folded),
}

/// What a round took in.
#[derive(Clone, Copy, Debug)]
pub struct Folded {
    /// Number of events.
    pub events: u64,
    /// Set where nothing more was stored at the time of the look.
    pub complete: bool,
    /// Time of the look, by the database's clock.
    pub at: DateTime<Utc>,
    /// Time of the oldest row that was taken in.
    pub oldest: Option<DateTime<Utc>>,
}

impl Aggregator {
    /// Returns a writer that is not connected yet.
    #[must_use]
    pub fn new(database: DatabaseEndpoint, statement_timeout: Duration, named: NamedTypes) -> Self {
        Aggregator { session: Session::new(database), statement_timeout, named }
    }

    /// Takes in what is new, a limited number of rows.
    ///
    /// # Errors
    /// The failure of a statement: nothing of the round is stored then, or all of it and only the answer was lost.
    pub async fn round(&mut self) -> Result<Round, StoreFailure> {
        let named = self.named.clone();
        let timeout = self.statement_timeout;
        let round = self.transaction(timeout, async |client| {
            let here = journal::here(client).await?;
            let Some(position) = position::read(client, here.epoch).await? else {
                return Ok(Round::NeedsFill(None));
            };
            match journal::look(client, &position, ROUND_ROWS).await? {
                Looked::Reset(reset) => Ok(Round::NeedsFill(Some(reset.reason))),
                Looked::Rows(look) => fold(client, look, &named).await.map(Round::Folded),
            }
        });
        Ok(round.await?.unwrap_or(Round::Busy))
    }

    /// Takes in all that is new.
    ///
    /// # Errors
    /// As [`Aggregator::round`].
    pub async fn catch_up(&mut self) -> Result<u64, StoreFailure> {
        let mut events = 0;
        loop {
            match self.round().await? {
                Round::Busy => tokio::time::sleep(LOCK_PAUSE).await,
                Round::NeedsFill(reason) => events += self.fill(reason, None, |_| {}).await?.events,
                Round::Folded(folded) => {
                    events += folded.events;
                    if folded.complete {
                        return Ok(events);
                    }
                }
            }
        }
    }

    /// Makes the summaries anew from the events, those from the hour of `from` on or all, in one transaction, and continues from there.
    /// What is older than the events that are left stays as it is. `progress` receives the number of events read.
    ///
    /// # Errors
    /// As [`Aggregator::round`].
    pub async fn fill(
        &mut self,
        reason: Option<ResetReason>,
        from: Option<DateTime<Utc>>,
        progress: impl Fn(u64),
    ) -> Result<Filled, StoreFailure> {
        let named = self.named.clone();
        loop {
            let filled = self.transaction(Duration::ZERO, async |client| {
                fill::fill(client, reason, from, &named, &progress).await
            });
            if let Some(filled) = filled.await? {
                return Ok(filled);
            }
            tokio::time::sleep(LOCK_PAUSE).await;
        }
    }

    /// Takes in what is new, and compares the summaries with the events, tenant by tenant, in one snapshot. What began before prune's
    /// cutoff is left out. `progress` receives the number of events read.
    ///
    /// # Errors
    /// As [`Aggregator::round`].
    pub async fn verify(&mut self, progress: impl Fn(u64)) -> Result<Verified, StoreFailure> {
        let named = self.named.clone();
        loop {
            self.catch_up().await?;
            let verified = self.transaction(Duration::ZERO, async |client| {
                let here = journal::here(client).await?;
                let Some(mut position) = position::read(client, here.epoch).await? else { return Ok(None) };
                loop {
                    let Looked::Rows(look) = journal::look(client, &position, ROUND_ROWS).await? else {
                        return Ok(None);
                    };
                    position = look.next.clone();
                    if fold(client, look, &named).await?.complete {
                        break;
                    }
                }
                verify::verify(client, &named, &progress).await.map(Some)
            });
            match verified.await? {
                Some(Some(verified)) => return Ok(verified),
                // Another process is at work, or has just begun anew.
                Some(None) | None => tokio::time::sleep(LOCK_PAUSE).await,
            }
        }
    }

    /// Runs `work` in one transaction with one snapshot as [`ROLE`], where no other process has the lock; `statement_timeout` of zero
    /// is none.
    async fn transaction<T>(
        &mut self,
        statement_timeout: Duration,
        work: impl AsyncFnOnce(&Client) -> Result<T, StoreFailure>,
    ) -> Result<Option<T>, StoreFailure> {
        let milliseconds = statement_timeout.as_millis();
        let limit = match statement_timeout {
            Duration::ZERO => Duration::MAX,
            timeout => timeout.saturating_mul(STATEMENTS),
        };
        let done = self
            .session
            .run(limit, async |client, ()| {
                client
                    .batch_execute(&format!(
                        "begin isolation level repeatable read; set local statement_timeout = {milliseconds}; \
                         set local role {ROLE}; {PLANNER_SETTINGS}"
                    ))
                    .await?;
                // A snapshot that is older than the lock is no danger: whoever had the lock has changed the position since, and the
                // server refuses to change it again.
                let lock = client.query_typed(&format!("select pg_try_advisory_xact_lock({LOCK})"), &[]).await?;
                let locked = lock.first().is_some_and(|row| row.get(0));
                let done = if locked { Some(work(client).await?) } else { None };
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

/// Adds the events of a look to the tables, with the position after them.
async fn fold(client: &Client, look: Look, named: &NamedTypes) -> Result<Folded, StoreFailure> {
    let mut sums = Sums::default();
    let ids: Vec<Uuid> = look.rows.iter().flat_map(|row| &row.ids).copied().collect();
    for ids in ids.chunks(IDS) {
        events::by_id(client, ids, |event| {
            sums.add(event.tenant_id, &event.source, &event.timeline(), named)
        })
        .await?;
    }
    let folded = Folded {
        events: sums.events,
        complete: look.complete,
        at: look.at,
        oldest: look.rows.iter().map(|row| row.stored_at).min(),
    };
    if !look.rows.is_empty() {
        apply::apply(client, sums, None).await?;
        position::write(client, &look.next, look.complete.then_some(look.at)).await?;
    }
    Ok(folded)
}
