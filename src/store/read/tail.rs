//! Events as they are committed, oldest first.
//!
//! A [`Watermark`] goes by transactions and not by `created_at`, so that an event that is committed late is not missed: it holds the
//! oldest transaction that was still running, and the ids of the events that were seen of that one and of later ones.

use std::collections::{HashSet, VecDeque};
use std::time::Duration;

use futures_util::future::try_join;
use futures_util::{Stream, stream};
use tokio_postgres::Client;
use uuid::Uuid;

use super::event::StoredEvent;
use super::limits::Limits;
use super::query::Query;
use super::reader::Reader;
use super::rows::{first_value, rows};
use super::scope::AccessScope;
use crate::backoff::Backoff;
use crate::store::failure::{FailureClass, Hold, StoreFailure};
use crate::store::statement::Typed;

/// Pause between two reads of a tail.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Boundary between the events that were seen and those that were not.
#[derive(Clone, Debug)]
pub struct Watermark {
    /// Oldest transaction that was still running: each event that was not seen belongs to it or to a later one.
    oldest_running: String,
    /// Events of those transactions that were seen.
    seen: HashSet<Uuid>,
}

impl Watermark {
    /// Records events that were seen in another way.
    pub fn has_seen(&mut self, events: &[StoredEvent]) {
        self.seen.extend(events.iter().map(|event| event.id));
    }
}

/// Item of [`Reader::tail`].
#[derive(Debug)]
pub enum TailItem {
    /// An event.
    Event(Box<StoredEvent>),
    /// A failure that the tail retries. It is returned once for each outage.
    Interrupted(StoreFailure),
}

/// State of a tail between two items.
struct Tail {
    reader: Reader,
    scope: AccessScope,
    query: Query,
    watermark: Option<Watermark>,
    ready: VecDeque<StoredEvent>,
    pause: Duration,
    backoff: Backoff,
    interrupted: bool,
}

impl Reader {
    /// Returns the newest page of a query, oldest event first, and then each event as it is committed. The tail retries while the
    /// database is away, and continues without a gap.
    ///
    /// # Errors
    /// The failure of the first page, and a failure that only an operator can fix; the stream ends there.
    pub fn tail(
        &self,
        scope: AccessScope,
        query: Query,
    ) -> impl Stream<Item = Result<TailItem, StoreFailure>> + use<> {
        let tail = Tail {
            reader: self.clone(),
            scope,
            query,
            watermark: None,
            ready: VecDeque::new(),
            pause: Duration::ZERO,
            backoff: Backoff::default(),
            interrupted: false,
        };
        stream::try_unfold(tail, |mut tail| async move { Ok(Some((tail.next().await?, tail))) })
    }

    /// Returns a watermark before everything that is committed from now on.
    ///
    /// # Errors
    /// As [`Reader::page`].
    pub async fn watermark(&self, scope: &AccessScope, query: &Query) -> Result<Watermark, StoreFailure> {
        let oldest_running = first_value::<String>(&self.rows(scope, &oldest_running_statement()?).await?)?;
        // The oldest running transaction may be of another database, and older than events that are visible now.
        let (_, visible) = self.visible(scope, query, &oldest_running).await?;
        Ok(Watermark { oldest_running, seen: visible.into_iter().collect() })
    }

    /// Returns the events of a query that were committed since the watermark, oldest first, each once, 1000 at most, and moves the
    /// watermark behind them. The query's limit and cursor do not apply.
    ///
    /// # Errors
    /// As [`Reader::page`]; the watermark stays as it was.
    pub async fn since(
        &self,
        scope: &AccessScope,
        query: &Query,
        watermark: &mut Watermark,
    ) -> Result<Vec<StoredEvent>, StoreFailure> {
        let (oldest_running, visible) = self.visible(scope, query, &watermark.oldest_running).await?;
        let mut new: Vec<Uuid> = visible.iter().copied().filter(|id| !watermark.seen.contains(id)).collect();
        let more = new.len() > Limits::MAX_EVENTS;
        new.truncate(Limits::MAX_EVENTS);
        let events = if new.is_empty() {
            Vec::new()
        } else {
            let rows = self.rows(scope, &query.with_ids(&new)?).await?;
            rows.iter().map(StoredEvent::from_row).collect::<Result<_, _>>()?
        };
        if more {
            watermark.seen.extend(new);
        } else {
            *watermark = Watermark { oldest_running, seen: visible.into_iter().collect() };
        }
        Ok(events)
    }

    /// Returns the oldest running transaction, and the ids of a query's rows of transactions that are not older than `since`.
    async fn visible(
        &self,
        scope: &AccessScope,
        query: &Query,
        since: &str,
    ) -> Result<(String, Vec<Uuid>), StoreFailure> {
        let (ids, oldest) = (query.committed_since(since)?, oldest_running_statement()?);
        let read = self.connections.transaction(scope, async |client: &Client| {
            // In this order: an event that is committed between the two is read now, and found again by the next read.
            Ok(try_join(rows(client, &oldest), rows(client, &ids)).await?)
        });
        let (oldest, ids) = read.await?;
        let ids = ids.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        Ok((first_value(&oldest)?, ids))
    }
}

impl Tail {
    async fn next(&mut self) -> Result<TailItem, StoreFailure> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(TailItem::Event(Box::new(event)));
            }
            tokio::time::sleep(self.pause).await;
            let Some(watermark) = &mut self.watermark else {
                self.ready = self.first_page().await?.into();
                continue;
            };
            match self.reader.since(&self.scope, &self.query, watermark).await {
                Ok(events) => {
                    self.pause =
                        if events.len() < Limits::MAX_EVENTS { POLL_INTERVAL } else { Duration::ZERO };
                    self.ready = events.into();
                    (self.interrupted, self.backoff) = (false, Backoff::default());
                }
                Err(failure) if failure.class == FailureClass::Held(Hold::Operator) => return Err(failure),
                Err(failure) => {
                    self.pause = POLL_INTERVAL + self.backoff.next_delay();
                    if !std::mem::replace(&mut self.interrupted, true) {
                        return Ok(TailItem::Interrupted(failure));
                    }
                }
            }
        }
    }

    /// Reads the newest page, and sets the watermark behind its events.
    async fn first_page(&mut self) -> Result<Vec<StoredEvent>, StoreFailure> {
        let mut watermark = self.reader.watermark(&self.scope, &self.query).await?;
        let mut events = self.reader.page(&self.scope, &self.query).await?.events;
        watermark.has_seen(&events);
        self.watermark = Some(watermark);
        events.reverse();
        Ok(events)
    }
}

fn oldest_running_statement() -> Result<Typed, StoreFailure> {
    Typed::of(&diesel::sql_query("select (pg_snapshot_xmin(pg_current_snapshot())::xid)::text"))
}
