//! The one writer of the summaries.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tokio_postgres::Client;
use uuid::Uuid;

use super::fill::{self, Filled};
use super::position::Stored;
use super::verify::{self, Verified};
use super::{apply, events, position};
use crate::store::endpoint::DatabaseEndpoint;
use crate::store::failure::StoreFailure;
use crate::store::journal::{self, Look, Looked, ResetReason};
use crate::store::read::Moment;
use crate::store::session::Session;
use crate::summaries::{NamedTypes, Sums};

/// Role that every transaction of the writer runs as.
pub const ROLE: &str = "cns_events_aggregate";

/// Advisory lock of the writer, held for one transaction: "cns-aggr" in ASCII.
const LOCK: i64 = 0x636e_732d_6167_6772;

/// Events that one round takes in, more or less: the rows of the journal differ in size.
const ROUND_EVENTS: u64 = 5000;

/// Rows of the journal that one round takes in, at most and in the first round.
const ROUND_ROWS: u32 = 5000;
const FIRST_ROWS: u32 = 20;

/// Rows of the journal, the latest, that tell how fast events are stored.
const RATE_ROWS: u32 = 2000;

/// Shortest span of time that a rate is told of, in seconds: one large insert is no rate.
const RATE_SECONDS: f64 = 0.5;

/// Ids that are read by one statement.
const IDS: usize = 5000;

/// Interval at which the position is written where nothing is stored: its age tells whether the task is at work.
const IDLE_WRITES: TimeDelta = TimeDelta::seconds(10);

/// Pause between two attempts to take the lock, for a command that waits for it.
const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// Statements that a round may send, for the bound on its whole time.
const STATEMENTS: u32 = 16;

/// Settings of the planner: everything is found by index, however little the planner knows of young tables.
const PLANNER_SETTINGS: &str = "set local jit = off; set local plan_cache_mode = force_custom_plan; set local enable_seqscan = off; \
    set local enable_hashjoin = off; set local enable_mergejoin = off";

/// Keeps the summaries. Several may run, anywhere: one at a time has the lock.
#[derive(Debug)]
pub struct Aggregator {
    session: Session,
    statement_timeout: Duration,
    named: NamedTypes,
    /// Rows that the next round asks for.
    rows: u32,
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

/// Events that a round took in.
#[derive(Clone, Copy, Debug)]
pub struct Folded {
    /// Number of events.
    pub events: u64,
    /// Set where nothing more was stored at the time of the look.
    pub complete: bool,
    /// Time of the look, by the database's clock.
    pub at: DateTime<Utc>,
    /// Time up to which everything that was stored is taken in, more or less: of a part, the time of its latest row.
    pub up_to: DateTime<Utc>,
    /// Events that are stored in a second, lately; 0 where nothing was.
    pub stored_per_second: f64,
}

impl Aggregator {
    /// Returns a writer that is not connected yet.
    #[must_use]
    pub fn new(database: DatabaseEndpoint, statement_timeout: Duration, named: NamedTypes) -> Self {
        Aggregator { session: Session::new(database), statement_timeout, named, rows: FIRST_ROWS }
    }

    /// Takes in what is new, a limited number of rows.
    ///
    /// # Errors
    /// The failure of a statement: nothing of the round is stored then, or all of it and only the answer was lost.
    pub async fn round(&mut self) -> Result<Round, StoreFailure> {
        let named = self.named.clone();
        let (timeout, rows) = (self.statement_timeout, self.rows);
        let round = self.transaction(timeout, async |client| {
            let here = journal::here(client).await?;
            let Some(Stored { position, as_of }) = position::read(client, here.epoch).await? else {
                return Ok((Round::NeedsFill(None), 0));
            };
            match journal::look(client, &position, rows).await? {
                Looked::Reset(reset) => Ok((Round::NeedsFill(Some(reset.reason)), 0)),
                Looked::Rows(look) => {
                    let found = look.rows.len() as u64;
                    Ok((Round::Folded(fold(client, look, as_of, &named).await?), found))
                }
            }
        });
        let (round, found) = round.await?.unwrap_or((Round::Busy, 0));
        if let Round::Folded(Folded { events, .. }) = &round
            && *events > 0
        {
            let wanted = ROUND_EVENTS * found / events;
            self.rows = u32::try_from(wanted).unwrap_or(ROUND_ROWS).clamp(2, ROUND_ROWS);
        }
        Ok(round)
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
    /// Sums of events that are deleted stay as they are. `progress` receives the number of events read.
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
                let Some(Stored { mut position, as_of }) = position::read(client, here.epoch).await? else {
                    return Ok(None);
                };
                loop {
                    let Looked::Rows(look) = journal::look(client, &position, FIRST_ROWS).await? else {
                        return Ok(None);
                    };
                    position = look.next.clone();
                    if fold(client, look, as_of, &named).await?.complete {
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

    /// Returns whether the login may keep the summaries.
    ///
    /// # Errors
    /// The failure of the statement.
    pub async fn may(&mut self) -> Result<bool, StoreFailure> {
        let query = format!(
            "select coalesce((select pg_has_role(oid, 'member') from pg_roles where rolname = '{ROLE}'), false) \
             and to_regclass('enrichment_positions') is not null"
        );
        let limit = self.statement_timeout;
        let rows =
            self.session.run(limit, async |client, ()| Ok(client.query_typed(&query, &[]).await?)).await?;
        Ok(rows.first().is_some_and(|row| row.get(0)))
    }

    /// Returns the time of the oldest event that is stored.
    ///
    /// # Errors
    /// As [`Aggregator::round`].
    pub async fn oldest_event(&mut self) -> Result<Option<DateTime<Utc>>, StoreFailure> {
        let begin = format!("begin read only; set local role {ROLE}; {PLANNER_SETTINGS}");
        let oldest = "select created_at from enrichment_events order by created_at limit 1";
        let read = self.session.transaction(&begin, self.statement_timeout, STATEMENTS, async |client| {
            let rows = client.query_typed(oldest, &[]).await?;
            rows.first().map(|row| Ok(row.try_get::<_, Moment>(0)?.0)).transpose()
        });
        read.await
    }

    /// Runs `work` in one transaction with one snapshot as [`ROLE`], where no other process has the lock; `statement_timeout` of zero
    /// is none.
    async fn transaction<T>(
        &mut self,
        statement_timeout: Duration,
        work: impl AsyncFnOnce(&Client) -> Result<T, StoreFailure>,
    ) -> Result<Option<T>, StoreFailure> {
        let begin =
            format!("begin isolation level repeatable read; set local role {ROLE}; {PLANNER_SETTINGS}");
        let locked = self.session.transaction(&begin, statement_timeout, STATEMENTS, async |client| {
            // A snapshot that is older than the lock is no danger: whoever had the lock has changed the position since, and the
            // server refuses to change it again.
            let lock = client.query_typed(&format!("select pg_try_advisory_xact_lock({LOCK})"), &[]).await?;
            let locked = lock.first().is_some_and(|row| row.get(0));
            if locked { work(client).await.map(Some) } else { Ok(None) }
        });
        locked.await
    }
}

/// Adds the events of a look to the tables, with the position after them.
async fn fold(
    client: &Client,
    look: Look,
    as_of: Option<DateTime<Utc>>,
    named: &NamedTypes,
) -> Result<Folded, StoreFailure> {
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
        up_to: if look.complete {
            look.at
        } else {
            look.rows.iter().map(|row| row.stored_at).max().unwrap_or(look.at)
        },
        stored_per_second: if look.rows.is_empty() { 0.0 } else { stored_per_second(client).await? },
    };
    let is_due = as_of.is_none_or(|as_of| look.at - as_of > IDLE_WRITES);
    if !look.rows.is_empty() || is_due {
        apply::apply(client, sums, None).await?;
        position::write(client, &look.next, look.complete.then_some(look.at)).await?;
    }
    Ok(folded)
}

async fn stored_per_second(client: &Client) -> Result<f64, StoreFailure> {
    let query = format!(
        "select sum(events)::float8 / greatest(extract(epoch from now() - min(stored_at))::float8, {RATE_SECONDS}) \
         from (select events, stored_at from enrichment_journal order by seq desc limit {RATE_ROWS}) latest"
    );
    let rows = client.query_typed(&query, &[]).await?;
    Ok(rows.first().and_then(|row| row.get(0)).unwrap_or_default())
}
