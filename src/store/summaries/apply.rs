//! Adding sums to the tables.

use chrono::{DateTime, Utc};
use diesel::sql_types::{Array, BigInt, SmallInt, Text, Timestamptz, Uuid as SqlUuid};
use futures_util::TryStreamExt;
use serde::Serialize;
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use crate::store::failure::StoreFailure;
use crate::store::statement::Typed;
use crate::summaries::{RunKey, Sums};
use crate::timeline::{Run, Summary};

/// Row of `workflow_runs`.
#[derive(Debug, Serialize)]
pub(super) struct RunRow<'a> {
    tenant_id: Uuid,
    workflow_id: &'a str,
    bom_id: Uuid,
    organization_id: Option<String>,
    status: String,
    stage: Option<String>,
    total_items: Option<i64>,
    completed_items: Option<i64>,
    failed_items: Option<i64>,
    percent: Option<i64>,
    events: i64,
    errors: i64,
    last_error: Option<String>,
    risks_critical: i64,
    risks_high: i64,
    risks_medium: i64,
    pauses: i64,
    paused_ms: i64,
    first_at: DateTime<Utc>,
    last_at: DateTime<Utc>,
    ended_at: Option<DateTime<Utc>>,
    fold: &'a Run,
}

/// Columns of [`RunRow`] with their types.
const RUN_COLUMNS: [(&str, &str); 22] = [
    ("tenant_id", "uuid"),
    ("workflow_id", "text"),
    ("bom_id", "uuid"),
    ("organization_id", "text"),
    ("status", "text"),
    ("stage", "text"),
    ("total_items", "bigint"),
    ("completed_items", "bigint"),
    ("failed_items", "bigint"),
    ("percent", "bigint"),
    ("events", "bigint"),
    ("errors", "bigint"),
    ("last_error", "text"),
    ("risks_critical", "bigint"),
    ("risks_high", "bigint"),
    ("risks_medium", "bigint"),
    ("pauses", "bigint"),
    ("paused_ms", "bigint"),
    ("first_at", "timestamptz"),
    ("last_at", "timestamptz"),
    ("ended_at", "timestamptz"),
    ("fold", "jsonb"),
];

impl<'a> RunRow<'a> {
    /// Returns the row of a run; `None` for one without events.
    pub(super) fn of((tenant_id, workflow_id, bom_id): &'a RunKey, run: &'a Run) -> Option<Self> {
        let Summary {
            organization_id,
            events,
            status,
            stage,
            total_items,
            completed_items,
            failed_items,
            percent,
            errors,
            last_error,
            risks,
            pauses,
            paused_ms,
            first_at,
            last_at,
            ended_at,
            ..
        } = run.summary()?;
        Some(RunRow {
            tenant_id: *tenant_id,
            workflow_id,
            bom_id: *bom_id,
            organization_id,
            status,
            stage,
            total_items: total_items.map(whole),
            completed_items: completed_items.map(whole),
            failed_items: failed_items.map(whole),
            percent: percent.map(whole),
            events: whole(events),
            errors: whole(errors),
            last_error,
            risks_critical: whole(risks.critical),
            risks_high: whole(risks.high),
            risks_medium: whole(risks.medium),
            pauses: whole(pauses),
            paused_ms,
            first_at,
            last_at,
            ended_at,
            fold: run,
        })
    }
}

/// Returns a count as the tables hold it.
fn whole(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// Adds sums to the tables. A stored run whose first event is before `kept_before` keeps its sums, because the events behind them are
/// deleted, and takes in the new statements alone.
pub(super) async fn apply(
    client: &Client,
    sums: Sums,
    kept_before: Option<DateTime<Utc>>,
) -> Result<(), StoreFailure> {
    add_counts(client, &sums).await?;
    add_stage_times(client, &sums).await?;
    add_parts(client, &sums).await?;
    add_runs(client, sums, kept_before).await
}

async fn add_counts(client: &Client, sums: &Sums) -> Result<(), StoreFailure> {
    if sums.counts.is_empty() {
        return Ok(());
    }
    let add = "insert into event_counts (tenant_id, hour, event_type, source, events) select * from unnest($1, $2, $3, $4, $5) \
        on conflict (tenant_id, hour, event_type, source) do update set events = event_counts.events + excluded.events";
    let keys = || sums.counts.keys();
    let statement = Typed::of(
        &diesel::sql_query(add)
            .bind::<Array<SqlUuid>, _>(keys().map(|key| key.0).collect::<Vec<_>>())
            .bind::<Array<Timestamptz>, _>(keys().map(|key| key.1).collect::<Vec<_>>())
            .bind::<Array<Text>, _>(keys().map(|key| key.2.as_str()).collect::<Vec<_>>())
            .bind::<Array<Text>, _>(keys().map(|key| key.3.as_str()).collect::<Vec<_>>())
            .bind::<Array<BigInt>, _>(sums.counts.values().copied().collect::<Vec<_>>()),
    )?;
    statement.execute(client).await.map(drop)
}

async fn add_stage_times(client: &Client, sums: &Sums) -> Result<(), StoreFailure> {
    if sums.stage_times.is_empty() {
        return Ok(());
    }
    let add = "insert into stage_times (tenant_id, hour, stage, bucket, events) select * from unnest($1, $2, $3, $4, $5) \
        on conflict (tenant_id, hour, stage, bucket) do update set events = stage_times.events + excluded.events";
    let keys = || sums.stage_times.keys();
    let statement = Typed::of(
        &diesel::sql_query(add)
            .bind::<Array<SqlUuid>, _>(keys().map(|key| key.0).collect::<Vec<_>>())
            .bind::<Array<Timestamptz>, _>(keys().map(|key| key.1).collect::<Vec<_>>())
            .bind::<Array<Text>, _>(keys().map(|key| key.2.as_str()).collect::<Vec<_>>())
            .bind::<Array<SmallInt>, _>(keys().map(|key| key.3).collect::<Vec<_>>())
            .bind::<Array<BigInt>, _>(sums.stage_times.values().copied().collect::<Vec<_>>()),
    )?;
    statement.execute(client).await.map(drop)
}

async fn add_parts(client: &Client, sums: &Sums) -> Result<(), StoreFailure> {
    if sums.parts.is_empty() {
        return Ok(());
    }
    let add = "insert into workflow_parts (tenant_id, mpn, workflow_id, bom_id) select * from unnest($1, $2, $3, $4) on conflict do nothing";
    let statement = Typed::of(
        &diesel::sql_query(add)
            .bind::<Array<SqlUuid>, _>(sums.parts.iter().map(|key| key.0).collect::<Vec<_>>())
            .bind::<Array<Text>, _>(sums.parts.iter().map(|key| key.1.as_str()).collect::<Vec<_>>())
            .bind::<Array<Text>, _>(sums.parts.iter().map(|key| key.2.as_str()).collect::<Vec<_>>())
            .bind::<Array<SqlUuid>, _>(sums.parts.iter().map(|key| key.3).collect::<Vec<_>>()),
    )?;
    statement.execute(client).await.map(drop)
}

/// Merges runs with those that are stored.
async fn add_runs(
    client: &Client,
    mut sums: Sums,
    kept_before: Option<DateTime<Utc>>,
) -> Result<(), StoreFailure> {
    if sums.runs.is_empty() {
        return Ok(());
    }
    let stored = "select r.tenant_id, r.workflow_id, r.bom_id, r.first_at, r.fold::text \
        from unnest($1, $2, $3) as k (tenant_id, workflow_id, bom_id) join workflow_runs r using (tenant_id, workflow_id, bom_id)";
    let keys = || sums.runs.keys();
    let stored = Typed::of(
        &diesel::sql_query(stored)
            .bind::<Array<SqlUuid>, _>(keys().map(|key| key.0).collect::<Vec<_>>())
            .bind::<Array<Text>, _>(keys().map(|key| key.1.as_str()).collect::<Vec<_>>())
            .bind::<Array<SqlUuid>, _>(keys().map(|key| key.2).collect::<Vec<_>>()),
    )?;
    let rows: Vec<Row> = stored.query(client).await?.try_collect().await?;
    for row in rows {
        let key: RunKey = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
        let first_at: DateTime<Utc> = row.try_get(3)?;
        let mut run = stored_run(row.try_get(4)?)?;
        let Some(new) = sums.runs.remove(&key) else { continue };
        if kept_before.is_some_and(|time| first_at < time) {
            run.merge_statements(new);
        } else {
            run.merge(new);
        }
        sums.runs.insert(key, run);
    }
    let names: Vec<&str> = RUN_COLUMNS.iter().map(|(name, _)| *name).collect();
    let typed: Vec<String> = RUN_COLUMNS.iter().map(|(name, of)| format!("{name} {of}")).collect();
    let set: Vec<String> = names[3..].iter().map(|name| format!("{name} = excluded.{name}")).collect();
    let names = names.join(", ");
    let write = format!(
        "insert into workflow_runs ({names}) select {names} from jsonb_to_recordset($1::text::jsonb) as r ({}) \
         on conflict (tenant_id, workflow_id, bom_id) do update set {}",
        typed.join(", "),
        set.join(", ")
    );
    let rows: Vec<RunRow<'_>> = sums.runs.iter().filter_map(|(key, run)| RunRow::of(key, run)).collect();
    let json = serde_json::to_string(&rows).map_err(|error| StoreFailure::unexpected(&error.to_string()))?;
    Typed::of(&diesel::sql_query(write).bind::<Text, _>(json))?.execute(client).await.map(drop)
}

/// Reads the fold of a stored run.
pub(super) fn stored_run(fold: &str) -> Result<Run, StoreFailure> {
    serde_json::from_str(fold).map_err(|error| {
        StoreFailure::unreadable(&format!("the fold of a stored workflow cannot be read: {error}"))
    })
}
