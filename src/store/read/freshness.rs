//! Time and position that an answer is of.

use chrono::{DateTime, Utc};
use tokio_postgres::{Client, Row};

use super::event::Moment;
use super::rows::rows;
use super::scope::AccessScope;
use crate::store::failure::StoreFailure;
use crate::store::journal::{Epoch, MAX_TEXT, Page, Position};
use crate::store::statement::Typed;

/// The server's snapshot, cluster and timeline; a standby has no positions.
const SERVER: &str = "pg_current_snapshot()::text, (select system_identifier from pg_control_system()), \
    case when pg_is_in_recovery() then null else substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) end";

/// Time of the read; on a standby that of the last commit that was replayed, before which it has everything.
const NOW: &str =
    "case when pg_is_in_recovery() then coalesce(pg_last_xact_replay_timestamp(), now()) else now() end";

/// Position that the summaries were folded to.
const SUMMED: &str = "(select * from enrichment_positions where name = 'aggregate') p";

/// Finds a row where that position can be continued: it is of this cluster, and the journal has each row after it.
const CONTINUED: &str = "from enrichment_positions p, enrichment_journal_state s, pg_control_system() c \
    where p.name = 'aggregate' and s.singleton and p.system_identifier = c.system_identifier \
    and s.system_identifier = c.system_identifier and pg_snapshot_xmax(p.passed) <= pg_snapshot_xmax(pg_current_snapshot()) \
    and pg_snapshot_xmin(p.passed) > s.journal_pruned_to";

/// Time that an answer made of summaries is of, and the position that it was folded to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Freshness {
    /// Everything that was stored before this time is in the answer.
    pub as_of: DateTime<Utc>,
    /// Position in the journal; `None` on a standby.
    pub position: Option<Position>,
}

/// Reason why summaries cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SummaryError {
    /// The summaries were never made.
    #[error("there are no summaries yet: `cns-events aggregate` has not run")]
    NeverMade,
    /// The read failed.
    #[error(transparent)]
    Failed(#[from] StoreFailure),
}

/// State of the summaries, in the snapshot of a read.
#[derive(Clone, Debug)]
pub(super) struct State {
    /// Time of the read: everything that was stored before it is visible.
    pub(super) now: DateTime<Utc>,
    /// Position of the read's own snapshot.
    pub(super) here: Option<Position>,
    /// Set where the journal has each event that is not summed up; else nothing tells which they are.
    pub(super) continued: bool,
    /// Time before which events were deleted.
    pub(super) events_pruned_before: DateTime<Utc>,
    summed: Option<Freshness>,
}

impl State {
    /// Returns the time and the position of the summaries.
    pub(super) fn summed(self) -> Result<Freshness, SummaryError> {
        self.summed.ok_or(SummaryError::NeverMade)
    }
}

/// Returns a query for the rows of the journal, visible to the reader, that the position `p` has not passed: each once, or twice.
pub(super) fn pending(columns: &str) -> String {
    let after = "(j.xact, j.seq) > (coalesce(p.look_xact, '0'), coalesce(p.look_seq, 0))";
    // Within a look that is longer than a page, the position is the row that was taken in last, and the look's own snapshot.
    [
        format!("j.xact >= greatest(pg_snapshot_xmax(p.passed), p.look_xact) and {after}"),
        format!("j.xact = any (array(select pg_snapshot_xip(p.passed))) and {after}"),
        "j.xact = any (array(select pg_snapshot_xip(p.look)))".to_owned(),
    ]
    .map(|condition| format!("select {columns} from enrichment_journal j where {condition}"))
    .join(" union all ")
}

/// Returns the condition for an event with the column `id` that is not summed up, visible to the reader.
pub(super) fn not_summed() -> String {
    let ids = pending("unnest(j.ids) as id");
    format!("(not exists (select {CONTINUED}) or id in (select j.id from {SUMMED}, lateral ({ids}) j))")
}

/// Reads the position of the transaction's snapshot; `None` on a standby.
pub(super) async fn here(client: &Client) -> Result<Option<Position>, StoreFailure> {
    let statement = Typed::of(&diesel::sql_query(format!("select {SERVER}")))?;
    position(first(&rows(client, &statement).await?)?)
}

/// Reads the state of the summaries: one indexed look tells whether anything that the reader sees is not summed up. Support staff does
/// not see the journal: its answers are of the time that everything is summed up to.
pub(super) async fn state(client: &Client, scope: &AccessScope) -> Result<State, StoreFailure> {
    let behind = if scope.has_journal() { format!("exists ({})", pending("1")) } else { "true".to_owned() };
    let statement = Typed::of(&diesel::sql_query(format!(
        "select {SERVER}, {NOW}, s.events_pruned_before, p.system_identifier, p.passed::text, p.look::text, p.look_xact::text, \
         p.look_seq, exists (select {CONTINUED}), case when not exists (select {CONTINUED}) or {behind} then p.as_of \
         else greatest(p.as_of, {NOW}) end \
         from enrichment_journal_state s left join {SUMMED} on true where s.singleton"
    )))?;
    let rows = rows(client, &statement).await?;
    let row = first(&rows)?;
    let here = position(row)?;
    let time = |column| Ok::<_, StoreFailure>(row.try_get::<_, Moment>(column)?.0);
    let summed = match row.try_get::<_, Option<i64>>(5)? {
        None => None,
        Some(identifier) => Some(Freshness {
            as_of: time(11)?,
            position: here.as_ref().map(|here| summed_to(row, identifier, here.epoch)).transpose()?,
        }),
    };
    Ok(State { now: time(3)?, here, continued: row.try_get(10)?, events_pruned_before: time(4)?, summed })
}

fn first(rows: &[Row]) -> Result<&Row, StoreFailure> {
    rows.first().ok_or_else(|| StoreFailure::unexpected("no row"))
}

/// Reads the columns of [`SERVER`].
fn position(row: &Row) -> Result<Option<Position>, StoreFailure> {
    let unreadable = |_| StoreFailure::unreadable("the server's position cannot be read");
    let (snapshot, identifier): (&str, i64) = (row.try_get(0)?, row.try_get(1)?);
    let Some(timeline) = row.try_get::<_, Option<&str>>(2)? else { return Ok(None) };
    let timeline = u32::from_str_radix(timeline, 16)
        .map_err(|_| StoreFailure::unreadable("the server's timeline cannot be read"))?;
    let epoch = Epoch { system_identifier: identifier.cast_unsigned(), timeline };
    Ok(Some(Position { epoch, passed: snapshot.parse().map_err(unreadable)?, page: None }))
}

/// Reads the position of the summaries. Its timeline is the server's: within one cluster it is restored together with what it feeds.
fn summed_to(row: &Row, identifier: i64, here: Epoch) -> Result<Position, StoreFailure> {
    let unreadable = || StoreFailure::unreadable("the position of the summaries cannot be read");
    let passed: &str = row.try_get(6)?;
    let (look, transaction): (Option<&str>, Option<&str>) = (row.try_get(7)?, row.try_get(8)?);
    let page = match (look, transaction, row.try_get(9)?) {
        (Some(look), Some(transaction), Some(seq)) => Some(Page {
            look: look.parse().map_err(|_| unreadable())?,
            transaction: transaction.parse().map_err(|_| unreadable())?,
            seq,
            taken: u32::MAX, // rows are taken in as a whole
        }),
        _ => None,
    };
    let epoch = Epoch { system_identifier: identifier.cast_unsigned(), ..here };
    Ok(Position { epoch, passed: passed.parse().map_err(|_| unreadable())?, page })
}

/// Returns the text of a position, where it is short enough for a header or a URL.
#[must_use]
pub fn position_text(position: Option<&Position>) -> Option<String> {
    position.map(Position::to_string).filter(|text| text.len() <= MAX_TEXT)
}
