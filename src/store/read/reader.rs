//! Pages of events, over a pool of connections.

use std::time::Duration;

use futures_util::future::try_join;
use futures_util::{Stream, TryStreamExt, stream};
use tokio_postgres::Row;

use super::connections::{Connections, Stopped};
use super::cursor::Cursor;
use super::event::StoredEvent;
use super::freshness::here;
use super::limits::Limits;
use super::query::{self, Query};
use super::rows::{first_value, rows};
use super::scope::AccessScope;
use crate::store::endpoint::DatabaseEndpoint;
use crate::store::failure::StoreFailure;
use crate::store::journal::Position;
use crate::store::statement::Typed;

/// Size in bytes at which a page ends early: 1000 events of the maximum size do not fit into memory.
const PAGE_BYTES: usize = 4 * 1024 * 1024;

/// Reads, over a pool of connections. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reader {
    pub(super) connections: Connections,
}

/// Events, newest first.
#[derive(Clone, Debug)]
pub struct Page {
    /// At most as many events as the query's limit; fewer where they are large, even if there are more.
    pub events: Vec<StoredEvent>,
    /// Cursor of the next page; `None` at the end.
    pub next: Option<Cursor>,
    /// Position in the journal of the page's snapshot; `None` on a standby.
    pub position: Option<Position>,
}

impl Reader {
    /// Returns a reader with at most `connections` connections, none of which is open yet. `timeout` bounds every read.
    #[must_use]
    pub fn new(database: DatabaseEndpoint, connections: usize, timeout: Duration) -> Self {
        Reader { connections: Connections::new(database, connections, timeout) }
    }

    /// Returns the maximum number of connections.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.connections.max_size()
    }

    /// Returns the events after the query's cursor, at most as many as its limit.
    ///
    /// # Errors
    /// The database's failure. For a missing table or privilege it is [`Hold::Operator`](crate::store::Hold).
    pub async fn page(&self, scope: &AccessScope, query: &Query) -> Result<Page, StoreFailure> {
        let limit = query.limit();
        let (mut events, cut, position) = self.up_to(scope, query, limit + 1).await?;
        let more = cut || events.len() > limit;
        events.truncate(limit);
        let next = events.last().filter(|_| more).map(StoredEvent::cursor);
        Ok(Page { events, next, position })
    }

    /// Returns every event after the query's cursor, whatever its limit. Each page is a transaction of its own, so that a long
    /// export does not hold back the vacuum.
    ///
    /// # Errors
    /// As [`Reader::page`]; the stream ends there.
    pub fn stream(
        &self,
        scope: AccessScope,
        query: Query,
    ) -> impl Stream<Item = Result<StoredEvent, StoreFailure>> + use<> {
        let reader = self.clone();
        let first = Some(query.limited(Limits::MAX_EVENTS));
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

    /// Returns the lines of the `EXPLAIN` of a query.
    ///
    /// # Errors
    /// As [`Reader::page`].
    pub async fn explain(&self, scope: &AccessScope, query: &Query) -> Result<Vec<String>, StoreFailure> {
        let statement = query.page(query.limit() + 1)?.explained();
        let lines = self.rows(scope, &statement).await?;
        Ok(lines.iter().map(|row| row.get(0)).collect())
    }

    /// Checks that this scope can read: the connection, the role, the privilege and the table. It reads no event.
    ///
    /// # Errors
    /// As [`Reader::page`].
    pub async fn can_read(&self, scope: &AccessScope) -> Result<(), StoreFailure> {
        self.value::<i64>(scope, &query::no_event()?).await.map(drop)
    }

    /// Returns whether any event is visible to this scope. Where none is, and the policies are not those of the migrations, the
    /// database may read every row.
    ///
    /// # Errors
    /// As [`Reader::page`].
    pub async fn sees_any_event(&self, scope: &AccessScope) -> Result<bool, StoreFailure> {
        // Ordered by an index: without the order the planner expects a row at once, and reads the whole table.
        let first =
            "select exists (select from enrichment_events order by tenant_id, created_at desc limit 1)";
        self.value(scope, &Typed::of(&diesel::sql_query(first))?).await
    }

    /// Returns the rows of a statement.
    pub(super) async fn rows(
        &self,
        scope: &AccessScope,
        statement: &Typed,
    ) -> Result<Vec<Row>, StoreFailure> {
        self.connections.transaction(scope, async |client| Ok(rows(client, statement).await?)).await
    }

    /// Returns the first value of a statement's first row.
    pub(super) async fn value<T: for<'a> postgres_types::FromSql<'a>>(
        &self,
        scope: &AccessScope,
        statement: &Typed,
    ) -> Result<T, StoreFailure> {
        first_value(&self.rows(scope, statement).await?)
    }

    /// Returns the first events of a query, `max_events` at most, whether their size ended the page earlier, and the position of the
    /// snapshot.
    async fn up_to(
        &self,
        scope: &AccessScope,
        query: &Query,
        max_events: usize,
    ) -> Result<(Vec<StoredEvent>, bool, Option<Position>), StoreFailure> {
        let statement = query.page(max_events)?;
        self.connections
            .transaction(scope, async |client| {
                let (position, rows) = try_join(here(client), statement.query(client)).await?;
                let mut rows = std::pin::pin!(rows);
                let (mut events, mut bytes) = (Vec::new(), 0);
                while let Some(row) = rows.try_next().await.map_err(StoreFailure::from)? {
                    bytes += row.raw_size_bytes();
                    events.push(StoredEvent::from_row(&row)?);
                    if bytes >= PAGE_BYTES && events.len() < max_events {
                        return Err(Stopped::Enough((events, true, position)));
                    }
                }
                Ok((events, false, position))
            })
            .await
    }
}
