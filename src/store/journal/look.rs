//! One look at the journal.

use chrono::{DateTime, Utc};
use diesel::pg::Pg;
use diesel::sql_types::{Array, Text};
use futures_util::TryStreamExt;
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use super::position::{Epoch, Page, Position};
use super::snapshot::Snapshot;
use crate::store::failure::StoreFailure;
use crate::store::statement::Typed;

/// One row of the journal: what one insert stored for one tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JournalRow {
    /// Transaction that stored it.
    pub transaction: u64,
    /// Number of the row.
    pub seq: i64,
    /// Begin of that transaction.
    pub stored_at: DateTime<Utc>,
    /// Tenant.
    pub tenant_id: Uuid,
    /// Types of the events: bits 0 to 11 in the contract's order, bit 30 for any other.
    pub types: i32,
    /// Ids of the events' rows, in the order in which they were stored.
    pub ids: Vec<Uuid>,
}

/// Rows that became visible since a position.
#[derive(Clone, Debug)]
pub struct Look {
    /// The rows, by transaction and number.
    pub rows: Vec<JournalRow>,
    /// Position after them.
    pub next: Position,
    /// Set where there were no more rows.
    pub complete: bool,
    /// Time of the look, by the database's clock.
    pub at: DateTime<Utc>,
}

impl Look {
    /// Ends the look, which began at `from`, after so many ids, within a row where necessary.
    #[must_use]
    pub fn limited(mut self, from: &Position, max_ids: usize) -> Look {
        let snapshot = match (&self.next.page, &from.page) {
            (Some(page), _) | (None, Some(page)) => page.look.clone(),
            (None, None) => self.next.passed.clone(),
        };
        let mut left = max_ids.max(1);
        let Some(at) = self.rows.iter().position(|row| {
            let fits = row.ids.len() <= left;
            left -= row.ids.len().min(left);
            !fits || left == 0
        }) else {
            return self;
        };
        let before: usize = self.rows[..at].iter().map(|row| row.ids.len()).sum();
        let row = &mut self.rows[at];
        row.ids.truncate(max_ids.max(1) - before);
        let begun =
            from.page.as_ref().filter(|page| (page.transaction, page.seq) == (row.transaction, row.seq));
        let taken = begun
            .map_or(0, |page| page.taken)
            .saturating_add(u32::try_from(row.ids.len()).unwrap_or(u32::MAX));
        let page = Page { look: snapshot, transaction: row.transaction, seq: row.seq, taken };
        self.rows.truncate(at + 1);
        self.next = Position { page: Some(page), ..from.clone() };
        self.complete = false;
        self
    }
}

/// Result of a look.
#[derive(Clone, Debug)]
pub enum Looked {
    /// Rows, or none.
    Rows(Look),
    /// The position cannot be continued.
    Reset(Reset),
}

/// Reason why a position cannot be continued: its reader begins anew at `here`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reset {
    /// The reason.
    pub reason: ResetReason,
    /// Position now.
    pub here: Position,
}

/// See [`Reset`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResetReason {
    /// The database is another cluster, or another timeline of it.
    #[error("the database is another one: it was restored, upgraded or promoted")]
    Epoch,
    /// The journal is of another cluster. The task that keeps the summaries empties it.
    #[error("the journal was restored from another database: `cns-events aggregate` begins it anew")]
    Foreign,
    /// The position is ahead of the server.
    #[error("the position is ahead of the database, which was restored")]
    Ahead,
    /// The journal's rows after the position are deleted.
    #[error("the journal is pruned past the position")]
    Pruned,
}

/// Columns of every look, whatever it finds: the server's snapshot and epoch, and the journal's state.
const SERVER: &str = "pg_current_snapshot()::text, \
    (select system_identifier from pg_control_system()), \
    case when pg_is_in_recovery() then null else substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) end, \
    s.journal_pruned_to::text, s.system_identifier, now()";

/// Facts about the server at a look.
struct Server {
    snapshot: Snapshot,
    epoch: Epoch,
    pruned_to: u64,
    /// Set where the journal's rows are of another cluster.
    foreign: bool,
    at: DateTime<Utc>,
}

impl Server {
    fn of(row: &Row) -> Result<Self, StoreFailure> {
        let number = |text: &str| text.parse().map_err(|_| StoreFailure::unreadable("not a transaction"));
        let identifier: i64 = row.try_get(1)?;
        let timeline: Option<&str> = row.try_get(2)?;
        let timeline = timeline.ok_or_else(StoreFailure::standby)?;
        let snapshot: &str = row.try_get(0)?;
        Ok(Server {
            snapshot: snapshot.parse().map_err(|_| StoreFailure::unreadable("not a snapshot"))?,
            epoch: Epoch {
                system_identifier: identifier.cast_unsigned(),
                timeline: u32::from_str_radix(timeline, 16)
                    .map_err(|_| StoreFailure::unreadable("not a timeline"))?,
            },
            pruned_to: number(row.try_get(3)?)?,
            foreign: row.try_get::<_, i64>(4)? != identifier,
            at: row.try_get(5)?,
        })
    }

    fn here(&self) -> Position {
        Position { epoch: self.epoch, passed: self.snapshot.clone(), page: None }
    }

    /// Returns the reason why a position cannot be continued on this server.
    fn refuses(&self, position: &Position) -> Option<ResetReason> {
        let ahead = |snapshot: &Snapshot| snapshot.end > self.snapshot.end;
        let look = position.page.as_ref().map(|page| &page.look);
        if self.foreign {
            Some(ResetReason::Foreign)
        } else if position.epoch != self.epoch {
            Some(ResetReason::Epoch)
        } else if ahead(&position.passed) || look.is_some_and(ahead) {
            Some(ResetReason::Ahead)
        } else if position.passed.oldest_running() <= self.pruned_to {
            Some(ResetReason::Pruned)
        } else {
            None
        }
    }
}

/// Returns the position of now: everything that is visible is before it.
///
/// # Errors
/// The failure of the statement; on a standby there is no position.
pub async fn here(client: &Client) -> Result<Position, StoreFailure> {
    Ok(server(client).await?.here())
}

async fn server(client: &Client) -> Result<Server, StoreFailure> {
    let statement = Typed::of(&diesel::sql_query(format!(
        "select {SERVER} from enrichment_journal_state s where s.singleton"
    )))?;
    let rows: Vec<Row> = statement.query(client).await?.try_collect().await?;
    Server::of(rows.first().ok_or_else(|| StoreFailure::unexpected("no row"))?)
}

/// Returns the rows after a position, `max_rows` at most, of every tenant that the connection may see.
///
/// # Errors
/// The failure of the statement; on a standby there is no position.
pub async fn look(client: &Client, position: &Position, max_rows: u32) -> Result<Looked, StoreFailure> {
    // One of them may be the last row of the page before.
    let max_rows = max_rows.max(2);
    let statement = statement(position, max_rows)?;
    let rows: Vec<Row> = statement.query(client).await?.try_collect().await?;
    let server = Server::of(rows.first().ok_or_else(|| StoreFailure::unexpected("no row"))?)?;
    if let Some(reason) = server.refuses(position) {
        return Ok(Looked::Reset(Reset { reason, here: server.here() }));
    }
    let found = rows.iter().filter_map(|row| journal_row(row, position).transpose());
    let found = found.collect::<Result<Vec<JournalRow>, StoreFailure>>()?;
    // A page that was begun ends with its own look: what became visible since belongs to the next one.
    let look = position.page.as_ref().map_or(&server.snapshot, |page| &page.look);
    let full = rows.len() >= max_rows as usize;
    let page = match (&position.page, found.last().filter(|_| full)) {
        (_, Some(last)) => Some(Page {
            look: look.clone(),
            transaction: last.transaction,
            seq: last.seq,
            taken: u32::try_from(last.ids.len()).unwrap_or(u32::MAX),
        }),
        _ => None,
    };
    let next = match page {
        Some(page) => Position { page: Some(page), ..position.clone() },
        None => Position { epoch: server.epoch, passed: look.clone(), page: None },
    };
    let complete = next.page.is_none() && position.page.is_none();
    Ok(Looked::Rows(Look { rows: found, next, complete, at: server.at }))
}

/// Returns the lines of the `EXPLAIN` of a look.
///
/// # Errors
/// The failure of the statement.
pub async fn explain(
    client: &Client,
    position: &Position,
    max_rows: u32,
) -> Result<Vec<String>, StoreFailure> {
    let explained = statement(position, max_rows)?.explained();
    let rows: Vec<Row> = explained.query(client).await?.try_collect().await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// Builds the statement: the rows of transactions that were running at the position, then those of later ones, each by index.
fn statement(position: &Position, max_rows: u32) -> Result<Typed, StoreFailure> {
    const COLUMNS: &str = "select xact, seq, stored_at, tenant_id, types, ids from enrichment_journal where";
    let Position { passed, page, .. } = position;
    let order = format!("order by xact, seq limit {max_rows}");
    let (mut from, mut within) = (passed.end, String::new());
    if let Some(Page { look, transaction, seq, .. }) = page {
        from = from.max(*transaction);
        // The last row is found again, for the ids of it that were not taken in.
        within = format!(
            "and xact < '{}'::xid8 and xact <> all ($2::xid8[]) and (xact, seq) >= ('{transaction}'::xid8, {seq})",
            look.end
        );
    }
    let sql = format!(
        "select {SERVER}, j.xact::text, j.seq, j.stored_at, j.tenant_id, j.types, j.ids \
         from enrichment_journal_state s left join lateral (select * from ( \
           ({COLUMNS} xact = any ($1::xid8[]) {within} {order}) union all \
           ({COLUMNS} xact >= '{from}'::xid8 {within} {order})) u {order}) j on true where s.singleton"
    );
    let texts = |snapshot: &Snapshot| snapshot.running.iter().map(u64::to_string).collect::<Vec<_>>();
    let mut query = diesel::sql_query(sql).into_boxed::<Pg>().bind::<Array<Text>, _>(texts(passed));
    if let Some(page) = page {
        query = query.bind::<Array<Text>, _>(texts(&page.look));
    }
    Typed::of(&query)
}

/// Reads a row; `None` where the look found none, or where all of the row was taken in.
fn journal_row(row: &Row, position: &Position) -> Result<Option<JournalRow>, StoreFailure> {
    let Some(transaction) = row.try_get::<_, Option<&str>>(6)? else { return Ok(None) };
    let transaction = transaction.parse().map_err(|_| StoreFailure::unreadable("not a transaction"))?;
    let seq = row.try_get(7)?;
    let mut ids: Vec<Uuid> = row.try_get(11)?;
    if let Some(page) =
        position.page.as_ref().filter(|page| (page.transaction, page.seq) == (transaction, seq))
    {
        ids.drain(..ids.len().min(page.taken as usize));
        if ids.is_empty() {
            return Ok(None);
        }
    }
    Ok(Some(JournalRow {
        transaction,
        seq,
        stored_at: row.try_get(8)?,
        tenant_id: row.try_get(9)?,
        types: row.try_get(10)?,
        ids,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(seq: i64, ids: u128) -> JournalRow {
        let ids = (0..ids).map(|id| Uuid::from_u128(u128::from(seq.unsigned_abs()) * 100 + id)).collect();
        JournalRow {
            transaction: 7,
            seq,
            stored_at: DateTime::UNIX_EPOCH,
            tenant_id: Uuid::nil(),
            types: 0,
            ids,
        }
    }

    #[test]
    fn a_limited_look_goes_on_where_it_ended() {
        let epoch = Epoch { system_identifier: 1, timeline: 1 };
        let from = Position { epoch, passed: "5:5:".parse().unwrap(), page: None };
        let next = Position { epoch, passed: "9:9:".parse().unwrap(), page: None };
        let whole = Look {
            rows: vec![row(1, 3), row(2, 3), row(3, 3)],
            next,
            complete: true,
            at: DateTime::UNIX_EPOCH,
        };
        for max in 1..12 {
            let (mut rows, mut from, mut given) = (whole.rows.clone(), from.clone(), 0);
            loop {
                let look = Look { rows: rows.clone(), ..whole.clone() }.limited(&from, max);
                let ids: Vec<Uuid> = look.rows.iter().flat_map(|row| row.ids.clone()).collect();
                assert!(ids.len() <= max, "{max}");
                given += ids.len();
                let Some(page) = look.next.page.clone() else { break };
                assert_eq!(page.look, whole.next.passed);
                // What the database gives from there on.
                rows.retain(|row| row.seq >= page.seq);
                let begun = from
                    .page
                    .as_ref()
                    .filter(|before| before.seq == page.seq)
                    .map_or(0, |before| before.taken);
                rows[0].ids.drain(..(page.taken - begun) as usize);
                rows.retain(|row| !row.ids.is_empty());
                from = look.next;
                if rows.is_empty() {
                    break;
                }
            }
            assert_eq!(given, 9, "{max}");
        }
    }
}
