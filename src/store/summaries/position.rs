//! The writer's own position in the journal, which is committed with what it feeds.

use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Nullable, Text, Timestamptz};
use futures_util::TryStreamExt;
use tokio_postgres::{Client, Row};

use crate::store::failure::StoreFailure;
use crate::store::journal::{Epoch, Page, Position};
use crate::store::statement::Typed;

/// Name of the position.
const NAME: &str = "aggregate";

/// A position with its age.
pub(super) struct Stored {
    pub(super) position: Position,
    /// Time before which everything that was stored is taken in.
    pub(super) as_of: Option<DateTime<Utc>>,
}

/// Reads the position; `None` where there is none. Its timeline is `now`'s: within one cluster it is restored, or lost, together with
/// what it feeds.
pub(super) async fn read(client: &Client, now: Epoch) -> Result<Option<Stored>, StoreFailure> {
    let read = "select system_identifier, passed::text, look::text, look_xact::text, look_seq, nullif(as_of, '-infinity') from enrichment_positions where name = $1";
    let statement = Typed::of(&diesel::sql_query(read).bind::<Text, _>(NAME))?;
    let rows: Vec<Row> = statement.query(client).await?.try_collect().await?;
    let Some(row) = rows.first() else { return Ok(None) };
    let unreadable = || StoreFailure::unreadable("the position of the summaries cannot be read");
    let identifier: i64 = row.try_get(0)?;
    let passed: &str = row.try_get(1)?;
    let look: Option<&str> = row.try_get(2)?;
    let (transaction, seq): (Option<&str>, Option<i64>) = (row.try_get(3)?, row.try_get(4)?);
    let page = match (look, transaction, seq) {
        (Some(look), Some(transaction), Some(seq)) => Some(Page {
            look: look.parse().map_err(|_| unreadable())?,
            transaction: transaction.parse().map_err(|_| unreadable())?,
            seq,
            taken: u32::MAX, // rows are taken in as a whole
        }),
        _ => None,
    };
    let epoch = Epoch { system_identifier: identifier.cast_unsigned(), timeline: now.timeline };
    let position = Position { epoch, passed: passed.parse().map_err(|_| unreadable())?, page };
    Ok(Some(Stored { position, as_of: row.try_get(5)? }))
}

/// Writes the position. `as_of` is the time before which everything stored is taken in; `None` leaves it.
pub(super) async fn write(
    client: &Client,
    position: &Position,
    as_of: Option<DateTime<Utc>>,
) -> Result<(), StoreFailure> {
    let write = "insert into enrichment_positions (name, system_identifier, passed, look, look_xact, look_seq, as_of) \
        values ($1, $2, $3::text::pg_snapshot, $4::text::pg_snapshot, $5::text::xid8, $6, coalesce($7, '-infinity')) \
        on conflict (name) do update set system_identifier = excluded.system_identifier, passed = excluded.passed, look = excluded.look, \
        look_xact = excluded.look_xact, look_seq = excluded.look_seq, as_of = coalesce($7, enrichment_positions.as_of)";
    let page = position.page.as_ref();
    let statement = Typed::of(
        &diesel::sql_query(write)
            .bind::<Text, _>(NAME)
            .bind::<BigInt, _>(position.epoch.system_identifier.cast_signed())
            .bind::<Text, _>(position.passed.to_string())
            .bind::<Nullable<Text>, _>(page.map(|page| page.look.to_string()))
            .bind::<Nullable<Text>, _>(page.map(|page| page.transaction.to_string()))
            .bind::<Nullable<BigInt>, _>(page.map(|page| page.seq))
            .bind::<Nullable<Timestamptz>, _>(as_of),
    )?;
    statement.execute(client).await.map(drop)
}
