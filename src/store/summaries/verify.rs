//! Comparison of the summaries with the events.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use chrono::{DateTime, Utc};
use diesel::sql_types::Uuid as SqlUuid;
use futures_util::TryStreamExt;
use serde::Serialize;
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use super::apply::stored_run;
use super::events::{Scan, literal};
use super::fill::{hour_from, pruned_before};
use crate::counted::counted;
use crate::store::failure::StoreFailure;
use crate::store::statement::Typed;
use crate::summaries::{NamedTypes, Sums};
use crate::timeline::{Run, Summary};

/// Differences that are kept; more are counted.
const MAX_DIFFERENCES: usize = 100;

/// Result of a comparison.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verified {
    /// Number of events that were read.
    pub events: u64,
    /// Number of tenants.
    pub tenants: u64,
    /// Number of summaries that were compared.
    pub summaries: u64,
    /// Number of differences.
    pub different: u64,
    /// The first of them.
    pub differences: Vec<Difference>,
    /// Time before which nothing was compared, because events are deleted.
    pub from: Option<DateTime<Utc>>,
}

/// A summary that is not what the events say.
#[derive(Clone, Debug, Serialize)]
pub struct Difference {
    /// Tenant.
    pub tenant_id: Uuid,
    /// Table, and the row's key.
    pub summary: String,
    /// Value in the table.
    pub stored: String,
    /// Value that the events give.
    pub events: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Difference { tenant_id, summary, stored, events } = self;
        write!(f, "tenant {tenant_id}: {summary}: stored {stored}, by the events {events}")
    }
}

impl Verified {
    /// Returns the differences and the numbers, as lines for people.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        let mut lines: Vec<String> = self.differences.iter().map(Difference::to_string).collect();
        let more = self.different.saturating_sub(self.differences.len() as u64);
        if more > 0 {
            lines.push(format!("and {more} more"));
        }
        let since = self
            .from
            .map_or_else(String::new, |from| format!(" since {}", from.format("%Y-%m-%d %H:%M:%S UTC")));
        let summaries = if self.summaries == 1 { "summary" } else { "summaries" };
        lines.push(format!(
            "{} in {} {summaries} of {}{since}: {}",
            counted(self.events, "event"),
            self.summaries,
            counted(self.tenants, "tenant"),
            counted(self.different, "difference"),
        ));
        lines
    }
}

/// Compares tenant by tenant, so that the largest tenant bounds the memory.
pub(super) async fn verify(
    client: &Client,
    named: &NamedTypes,
    progress: &impl Fn(u64),
) -> Result<Verified, StoreFailure> {
    client.batch_execute("reset enable_seqscan; reset enable_hashjoin; reset enable_mergejoin").await?;
    let from = pruned_before(client).await?;
    let mut verified = Verified { from, ..Verified::default() };
    for tenant in tenants(client).await? {
        let whole_from = from.map_or_else(|| "timestamptz '-infinity'".to_owned(), literal);
        let counts_from = from.map(hour_from);
        let mut sums = Sums::default();
        let mut scan =
            Scan::open(client, &format!("tenant_id = '{tenant}' and created_at >= {whole_from}")).await?;
        while scan
            .next(|event| {
                if counts_from.is_none_or(|from| event.created_at >= from) {
                    sums.add_counts(tenant, &event.source, &event.timeline(), named);
                }
                sums.add_run(tenant, &event.timeline());
                verified.events += 1;
            })
            .await?
        {
            progress(verified.events);
        }
        scan.close().await?;
        compare(client, tenant, sums, from, &mut verified).await?;
        verified.tenants += 1;
    }
    Ok(verified)
}

/// Returns every tenant that has events or summaries, each found by one step in an index.
async fn tenants(client: &Client) -> Result<BTreeSet<Uuid>, StoreFailure> {
    let mut tenants = BTreeSet::new();
    for table in ["enrichment_events", "event_counts", "workflow_runs"] {
        let steps = format!(
            "with recursive t (tenant_id) as ((select tenant_id from {table} order by tenant_id limit 1) union all \
             select (select e.tenant_id from {table} e where e.tenant_id > t.tenant_id order by e.tenant_id limit 1) from t \
             where t.tenant_id is not null) select tenant_id from t where tenant_id is not null"
        );
        let rows: Vec<Row> = Typed::of(&diesel::sql_query(steps))?.query(client).await?.try_collect().await?;
        for row in rows {
            tenants.insert(row.try_get(0)?);
        }
    }
    Ok(tenants)
}

async fn compare(
    client: &Client,
    tenant: Uuid,
    sums: Sums,
    from: Option<DateTime<Utc>>,
    verified: &mut Verified,
) -> Result<(), StoreFailure> {
    let counts_from =
        from.map_or_else(|| "timestamptz '-infinity'".to_owned(), |from| literal(hour_from(from)));
    let counts = format!(
        "select 'event_counts ' || to_char(hour at time zone 'UTC', 'YYYY-MM-DD HH24') || ' ' || event_type || ' ' || source, events \
         from event_counts where tenant_id = $1 and hour >= {counts_from}"
    );
    let by_events = sums.counts.into_iter().map(|((_, hour, event_type, source), events)| {
        (format!("event_counts {} {event_type} {source}", hour.format("%Y-%m-%d %H")), events)
    });
    differing(&numbers(client, counts, tenant).await?, &by_events.collect(), tenant, verified);

    let times = format!(
        "select 'stage_times ' || to_char(hour at time zone 'UTC', 'YYYY-MM-DD HH24') || ' ' || bucket || ' ' || stage, events \
         from stage_times where tenant_id = $1 and hour >= {counts_from}"
    );
    let by_events = sums.stage_times.into_iter().map(|((_, hour, stage, bucket), events)| {
        (format!("stage_times {} {bucket} {stage}", hour.format("%Y-%m-%d %H")), events)
    });
    differing(&numbers(client, times, tenant).await?, &by_events.collect(), tenant, verified);

    let mut stored = BTreeMap::new();
    let mut left_out = BTreeSet::new();
    let runs = "select workflow_id, bom_id, first_at, fold::text from workflow_runs where tenant_id = $1";
    let runs = Typed::of(&diesel::sql_query(runs).bind::<SqlUuid, _>(tenant))?;
    let rows: Vec<Row> = runs.query(client).await?.try_collect().await?;
    for row in rows {
        let name = run_name(row.try_get(0)?, row.try_get(1)?);
        let first_at: DateTime<Utc> = row.try_get(2)?;
        if from.is_some_and(|from| first_at < from) {
            left_out.insert(name);
        } else {
            stored.insert(name, shown(&stored_run(row.try_get(3)?)?));
        }
    }
    let by_events =
        sums.runs.iter().map(|((_, workflow_id, bom_id), run)| (run_name(workflow_id, *bom_id), shown(run)));
    let by_events = by_events.filter(|(name, _)| !left_out.contains(name)).collect();
    differing(&stored, &by_events, tenant, verified);
    Ok(())
}

fn run_name(workflow_id: &str, bom_id: Uuid) -> String {
    format!("workflow_runs {workflow_id} {bom_id}")
}

/// Returns everything that a run says but its stages, which are not stored.
fn shown(run: &Run) -> String {
    let summary = run.summary().map(|summary| Summary { stages: Vec::new(), ..summary });
    serde_json::to_string(&summary).unwrap_or_default()
}

async fn numbers(
    client: &Client,
    query: String,
    tenant: Uuid,
) -> Result<BTreeMap<String, i64>, StoreFailure> {
    let statement = Typed::of(&diesel::sql_query(query).bind::<SqlUuid, _>(tenant))?;
    let rows: Vec<Row> = statement.query(client).await?.try_collect().await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

fn differing<T: PartialEq + fmt::Display>(
    stored: &BTreeMap<String, T>,
    events: &BTreeMap<String, T>,
    tenant: Uuid,
    verified: &mut Verified,
) {
    let names: BTreeSet<&String> = stored.keys().chain(events.keys()).collect();
    verified.summaries += names.len() as u64;
    for name in names {
        let (stored, events) = (stored.get(name), events.get(name));
        if stored == events {
            continue;
        }
        verified.different += 1;
        if verified.differences.len() < MAX_DIFFERENCES {
            let text = |value: Option<&T>| value.map_or_else(|| "nothing".to_owned(), T::to_string);
            verified.differences.push(Difference {
                tenant_id: tenant,
                summary: name.clone(),
                stored: text(stored),
                events: text(events),
            });
        }
    }
}
