//! Reads: the events of a BOM, of a workflow, and the errors of late, newest first.
//!
//! Every read is one transaction that is sent as a whole and answered in one round trip: it becomes `authenticated` with
//! the tenant's claims, whatever login the connection has, asks, and ends. Row-level security decides what is seen; nothing
//! here names a tenant in a `WHERE` clause (docs/adr/0007-a-read-is-one-round-trip.md).
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use cns_events::store::DatabaseEndpoint;
//! use cns_events::store::read::{Query, Reader, AccessScope};
//! use futures_util::TryStreamExt;
//!
//! let database = DatabaseEndpoint::from_url(&std::env::var("DATABASE_URL")?)?;
//! let reader = Reader::new(database, 5, std::time::Duration::from_secs(10));
//! let tenant = AccessScope::tenant(cns_events::event::tenant_of("org-123"));
//! let bom_id = uuid::uuid!("6f9619ff-8b86-4d01-b42d-00cf4fc964ff");
//!
//! // The newest hundred, and where to go on.
//! let page = reader.page(&tenant, &Query::events_by_bom(bom_id, ["error"], None)?).await?;
//! let _older = page.next;
//!
//! // All of them, for an export.
//! let mut all = std::pin::pin!(reader.stream(tenant, Query::events_by_workflow("enrich-bom-42", None)?));
//! while let Some(event) = all.try_next().await? {
//!     println!("{} {}", event.created_at, event.event_type);
//! }
//! # Ok(())
//! # }
//! ```

mod connections;
mod cursor;
mod event;
mod query;
mod scope;

use std::collections::HashSet;
use std::time::Duration;

use diesel::sql_types::Uuid as SqlUuid;
use futures_util::future::try_join;
use futures_util::{Stream, TryStreamExt, stream};
use tokio_postgres::Client;
use uuid::Uuid;

use super::endpoint::DatabaseEndpoint;
use super::failure::StoreFailure;
use super::statement::Typed;
use connections::{Connections, Stopped};

pub use cursor::{Cursor, CursorError};
pub use event::StoredEvent;
pub use query::{Limits, Query, QueryError};
pub use scope::{AccessScope, SubjectError};

/// A page ends early when its events have this many bytes: a thousand of the largest would not fit any memory.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// Reads, over a pool of connections. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reader {
    connections: Connections,
}

/// Some events, newest first.
#[derive(Clone, Debug)]
pub struct Page {
    /// At most as many as the query's limit; fewer where they are large, also when there are more.
    pub events: Vec<StoredEvent>,
    /// Where to go on; `None` at the end.
    pub next: Option<Cursor>,
}

/// What has been seen, for [`Reader::newer`].
#[derive(Clone, Debug)]
pub struct Watermark {
    /// The oldest transaction that was still running: whatever is not seen yet is of it, or of a later one.
    oldest_running: String,
    /// What was seen of those.
    seen: HashSet<Uuid>,
}

impl Watermark {
    /// These were seen in another way since.
    pub fn has_seen(&mut self, events: &[StoredEvent]) {
        self.seen.extend(events.iter().map(|event| event.id));
    }
}

/// From `created_at` to the commit, in seconds.
#[derive(Clone, Copy, Debug)]
pub struct Latency {
    /// The median.
    pub p50: f64,
    /// The 99th percentile.
    pub p99: f64,
}

impl Reader {
    /// A reader with at most so many connections, none of which is open yet. `timeout` bounds every read.
    #[must_use]
    pub fn new(database: DatabaseEndpoint, connections: usize, timeout: Duration) -> Self {
        Reader { connections: Connections::new(database, connections, timeout) }
    }

    /// How many connections there are at most.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.most()
    }

    /// The next events of a query: as many as its limit, after its cursor.
    ///
    /// # Errors
    /// As the database gives them. A missing table or privilege is the operator's fault.
    pub async fn page(&self, scope: &AccessScope, query: &Query) -> Result<Page, StoreFailure> {
        let limit = query.limit();
        let mut events = self.up_to(scope, query, limit + 1).await?;
        let more = events.full || events.rows.len() > limit;
        events.rows.truncate(limit);
        let next = events.rows.last().filter(|_| more).map(Cursor::after);
        Ok(Page { events: events.rows, next })
    }

    /// Every event of a query from its cursor on, whatever its limit: page after page, each a transaction of its own, so
    /// that a long export holds nothing up.
    ///
    /// # Errors
    /// As [`Reader::page`]; the stream ends there.
    pub fn stream(
        &self,
        scope: AccessScope,
        query: Query,
    ) -> impl Stream<Item = Result<StoredEvent, StoreFailure>> + use<> {
        let reader = self.clone();
        let first = Some(query.limited(Limits::MOST));
        let pages = stream::try_unfold(first, move |query| {
            let (reader, scope) = (reader.clone(), scope.clone());
            async move {
                let Some(query) = query else { return Ok::<_, StoreFailure>(None) };
                let page = reader.page(&scope, &query).await?;
                let rest = page.next.map(|next| query.after(next));
                Ok(Some((stream::iter(page.events.into_iter().map(Ok)), rest)))
            }
        });
        pages.try_flatten()
    }

    /// Where [`Reader::newer`] begins: everything committed from now on.
    ///
    /// # Errors
    /// As [`Reader::page`].
    pub async fn mark(&self, scope: &AccessScope, query: &Query) -> Result<Watermark, StoreFailure> {
        let oldest_running =
            self.connections.transaction(scope, async |client| Ok(oldest_running(client).await?)).await?;
        // What was committed by then, though younger than the oldest that is still running (of any database).
        let (_, visible) = self.visible(scope, query, &oldest_running).await?;
        Ok(Watermark { oldest_running, seen: visible.into_iter().collect() })
    }

    /// Events of a query that were committed since `mark`, oldest first, each once and at most a thousand; its limit and cursor
    /// are not asked for. It goes by transactions and not by `created_at`, so that an event that comes late is not missed.
    ///
    /// # Errors
    /// As [`Reader::page`]; `mark` is as it was then.
    pub async fn newer(
        &self,
        scope: &AccessScope,
        query: &Query,
        mark: &mut Watermark,
    ) -> Result<Vec<StoredEvent>, StoreFailure> {
        let (oldest_running, visible) = self.visible(scope, query, &mark.oldest_running).await?;
        let mut new: Vec<Uuid> = visible.iter().copied().filter(|id| !mark.seen.contains(id)).collect();
        let more = new.len() > Limits::MOST;
        new.truncate(Limits::MOST);
        let events = if new.is_empty() {
            Vec::new()
        } else {
            let statement = query.these(&new)?;
            let read =
                self.connections.transaction(scope, async |client| Ok(rows(client, &statement).await?));
            read.await?.iter().map(StoredEvent::from_row).collect::<Result<_, _>>()?
        };
        if more {
            mark.seen.extend(new);
        } else {
            *mark = Watermark { oldest_running, seen: visible.into_iter().collect() };
        }
        Ok(events)
    }

    /// The oldest transaction that runs, and the ids of a query's rows of no older transaction than `since`.
    async fn visible(
        &self,
        scope: &AccessScope,
        query: &Query,
        since: &str,
    ) -> Result<(String, Vec<Uuid>), StoreFailure> {
        let statement = query.committed_since(since)?;
        let read = self.connections.transaction(scope, async |client| {
            // In this order: what is committed between the two is read now, and again the next time.
            Ok(try_join(oldest_running(client), rows(client, &statement)).await?)
        });
        let (oldest_running, rows) = read.await?;
        let ids = rows.iter().map(|row| row.try_get(0)).collect::<Result<_, _>>()?;
        Ok((oldest_running, ids))
    }

    /// How the database would answer a query: the lines of its `EXPLAIN`.
    ///
    /// # Errors
    /// As [`Reader::page`].
    pub async fn explain(&self, scope: &AccessScope, query: &Query) -> Result<Vec<String>, StoreFailure> {
        let statement = query.page(query.limit() + 1)?.explained();
        let read = self.connections.transaction(scope, async |client| Ok(rows(client, &statement).await?));
        Ok(read.await?.iter().map(|row| row.get(0)).collect())
    }

    /// Whether this scope can read: it takes what every read takes (the connection, the role, the privilege, the table) and
    /// looks at no event.
    ///
    /// # Errors
    /// As [`Reader::page`].
    pub async fn can_read(&self, scope: &AccessScope) -> Result<(), StoreFailure> {
        self.one::<i64>(scope, &query::nothing()?).await.map(drop)
    }

    /// Whether anything is there that this scope may see. Where that is nothing, and policies are not as this project makes
    /// them, every row may be looked at.
    ///
    /// # Errors
    /// As [`Reader::page`].
    pub async fn sees_anything(&self, scope: &AccessScope) -> Result<bool, StoreFailure> {
        // In the order of an index, or the planner expects to find a row at once and reads the whole table in vain.
        let first =
            "select exists (select from enrichment_events order by tenant_id, created_at desc limit 1)";
        self.one(scope, &Typed::of(&diesel::sql_query(first))?).await
    }

    /// How many events of a BOM are stored.
    ///
    /// # Errors
    /// As [`Reader::page`].
    pub async fn count(&self, scope: &AccessScope, bom_id: Uuid) -> Result<i64, StoreFailure> {
        self.one(scope, &query::count(bom_id)?).await
    }

    /// Publish to commit over a BOM's events; needs `track_commit_timestamp = on` in the server.
    ///
    /// # Errors
    /// As [`Reader::page`], also where the server does not keep commit times.
    pub async fn latency(&self, scope: &AccessScope, bom_id: Uuid) -> Result<Option<Latency>, StoreFailure> {
        let of = "select percentile_cont(array[0.5, 0.99]) within group (order by seconds) from (select \
                  extract(epoch from pg_xact_commit_timestamp(xmin) - created_at)::float8 as seconds \
                  from enrichment_events where bom_id = $1) as latency";
        let statement = Typed::of(&diesel::sql_query(of).bind::<SqlUuid, _>(bom_id))?;
        let quantiles: Option<Vec<f64>> = self.one(scope, &statement).await?;
        Ok(match quantiles.as_deref() {
            Some([p50, p99]) => Some(Latency { p50: *p50, p99: *p99 }),
            _ => None,
        })
    }

    /// The one value of a statement that has one.
    async fn one<T: for<'a> postgres_types::FromSql<'a>>(
        &self,
        scope: &AccessScope,
        statement: &Typed,
    ) -> Result<T, StoreFailure> {
        let read = self.connections.transaction(scope, async |client| Ok(rows(client, statement).await?));
        let rows = read.await?;
        Ok(rows.first().ok_or_else(|| StoreFailure::unexpected("no row"))?.try_get(0)?)
    }

    /// The first events of a query, until there are `most` or they are large.
    async fn up_to(&self, scope: &AccessScope, query: &Query, most: usize) -> Result<Gathered, StoreFailure> {
        let statement = query.page(most)?;
        self.connections
            .transaction(scope, async |client| {
                let mut rows = std::pin::pin!(statement.query(client).await?);
                let (mut events, mut bytes) = (Vec::new(), 0);
                while let Some(row) = rows.try_next().await.map_err(StoreFailure::from)? {
                    bytes += row.raw_size_bytes();
                    events.push(StoredEvent::from_row(&row)?);
                    if bytes >= PAGE_BYTES && events.len() < most {
                        return Err(Stopped::Enough(Gathered { rows: events, full: true }));
                    }
                }
                Ok(Gathered { rows: events, full: false })
            })
            .await
    }
}

/// Events, and whether there were too many bytes for more.
struct Gathered {
    rows: Vec<StoredEvent>,
    full: bool,
}

async fn rows(client: &Client, statement: &Typed) -> Result<Vec<tokio_postgres::Row>, StoreFailure> {
    Ok(statement.query(client).await?.try_collect().await?)
}

async fn oldest_running(client: &Client) -> Result<String, StoreFailure> {
    let asked = Typed::of(&diesel::sql_query("select (pg_snapshot_xmin(pg_current_snapshot())::xid)::text"))?;
    let rows = rows(client, &asked).await?;
    Ok(rows.first().ok_or_else(|| StoreFailure::unexpected("no row"))?.try_get(0)?)
}
