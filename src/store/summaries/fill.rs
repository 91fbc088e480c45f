//! Making the summaries anew from the events.

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::TryStreamExt;
use tokio_postgres::{Client, Row};

use super::events::{Scan, literal};
use super::{apply, events, position};
use crate::store::failure::StoreFailure;
use crate::store::journal::{self, ResetReason};
use crate::store::statement::Typed;
use crate::summaries::{NamedTypes, RunKey, Sums, hour};

/// Workflows that are held in memory before they are written.
const MAX_RUNS: usize = 5000;

/// Workflows whose events are read by one statement.
const KEYS: usize = 100;

/// Part numbers and counts that are held in memory before they are written.
const MAX_ROWS: usize = 20_000;

/// Result of a fill.
#[derive(Clone, Copy, Debug)]
pub struct Filled {
    /// Number of events.
    pub events: u64,
    /// Time from which the sums are new; `None` where they are from the first event on.
    pub from: Option<DateTime<Utc>>,
}

/// Returns the time before which prune has deleted events; `None` where it has not.
pub(super) async fn pruned_before(client: &Client) -> Result<Option<DateTime<Utc>>, StoreFailure> {
    let read = "select nullif(events_pruned_before, '-infinity') from enrichment_journal_state";
    let rows: Vec<Row> = Typed::of(&diesel::sql_query(read))?.query(client).await?.try_collect().await?;
    Ok(match rows.first() {
        Some(row) => row.try_get(0)?,
        None => None,
    })
}

/// Returns the first hour that begins at a time or after it.
pub(super) fn hour_from(time: DateTime<Utc>) -> DateTime<Utc> {
    let begun = hour(time);
    if begun == time { time } else { begun + TimeDelta::hours(1) }
}

pub(super) async fn fill(
    client: &Client,
    reason: Option<ResetReason>,
    from: Option<DateTime<Utc>>,
    named: &NamedTypes,
    progress: &impl Fn(u64),
) -> Result<Filled, StoreFailure> {
    // A fill reads the whole table, and the tables of summaries may be young: the planner is free.
    client.batch_execute("reset enable_seqscan; reset enable_hashjoin; reset enable_mergejoin").await?;
    if reason == Some(ResetReason::Foreign) {
        client
            .batch_execute(
                "delete from enrichment_journal; update enrichment_journal_state set journal_pruned_to = '0', \
                 system_identifier = (select system_identifier from pg_control_system())",
            )
            .await?;
    }
    let here = journal::here(client).await?;
    let pruned = pruned_before(client).await?;
    // Runs whose first events are deleted keep their sums. All others are made anew from all of their events.
    let whole_from = pruned.map_or_else(|| "timestamptz '-infinity'".to_owned(), literal);
    let from = from.map(hour).max(pruned.map(hour_from));
    let counts_from = from.map_or_else(|| "timestamptz '-infinity'".to_owned(), literal);
    let rebuilt = format!("r.first_at >= {whole_from} and r.last_at >= {counts_from}");
    let earlier = if from == pruned { Vec::new() } else { keys(client, &rebuilt, &counts_from).await? };
    client
        .batch_execute(&format!(
            "delete from event_counts where hour >= {counts_from}; delete from stage_times where hour >= {counts_from}; \
             delete from workflow_parts p using workflow_runs r where {rebuilt} and p.tenant_id = r.tenant_id \
               and p.workflow_id = r.workflow_id and p.bom_id = r.bom_id; \
             delete from workflow_runs r where {rebuilt}"
        ))
        .await?;
    let mut filling = Filling { client, sums: Sums::default(), events: 0, kept_before: pruned, progress };
    let mut scan = Scan::open(client, &format!("created_at >= {counts_from}")).await?;
    while scan
        .next(|event| filling.sums.add(event.tenant_id, &event.source, &event.timeline(), named))
        .await?
    {
        filling.write_if_full().await?;
    }
    scan.close().await?;
    for keys in earlier.chunks(KEYS) {
        let span = format!("created_at >= {whole_from} and created_at < {counts_from}");
        let sums = &mut filling.sums;
        events::of_runs(client, keys, &span, |event| sums.add_run(event.tenant_id, &event.timeline()))
            .await?;
        filling.write_if_full().await?;
    }
    let events = filling.write().await?;
    let now = client.query_typed("select now()", &[]).await?;
    let now = now.first().map(|row| row.get(0));
    position::write(client, &here, now).await?;
    Ok(Filled { events, from })
}

/// Returns the workflows that are made anew and began before `counts_from`: their earlier events are read too.
async fn keys(client: &Client, rebuilt: &str, counts_from: &str) -> Result<Vec<RunKey>, StoreFailure> {
    let query = format!(
        "select r.tenant_id, r.workflow_id, r.bom_id from workflow_runs r where {rebuilt} and r.first_at < {counts_from}"
    );
    let rows: Vec<Row> = Typed::of(&diesel::sql_query(query))?.query(client).await?.try_collect().await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))).collect()
}

/// Sums on their way to the tables.
struct Filling<'a, P> {
    client: &'a Client,
    sums: Sums,
    events: u64,
    kept_before: Option<DateTime<Utc>>,
    progress: &'a P,
}

impl<P: Fn(u64)> Filling<'_, P> {
    async fn write_if_full(&mut self) -> Result<(), StoreFailure> {
        let Sums { counts, stage_times, runs, parts, .. } = &self.sums;
        let full = runs.len() >= MAX_RUNS || counts.len() + stage_times.len() + parts.len() >= MAX_ROWS;
        (self.progress)(self.events + self.sums.events);
        if full { self.write().await.map(drop) } else { Ok(()) }
    }

    /// Writes what is held, and returns the number of events so far.
    async fn write(&mut self) -> Result<u64, StoreFailure> {
        let sums = std::mem::take(&mut self.sums);
        self.events += sums.events;
        apply::apply(self.client, sums, self.kept_before).await?;
        Ok(self.events)
    }
}
