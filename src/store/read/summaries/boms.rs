//! The runs of a BOM and their sums.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use futures_util::future::try_join4;
use serde::Serialize;
use tokio_postgres::Row;
use uuid::Uuid;

use super::super::freshness::{Freshness, SummaryError, state};
use super::super::limits::Limits;
use super::super::reader::Reader;
use super::super::rows::rows;
use super::super::scope::AccessScope;
use super::conditions::{Conditions, Value};
use super::counts::{by_name, statuses};
use super::run::{COLUMNS, WorkflowRun};
use crate::store::failure::StoreFailure;
use crate::store::statement::Typed;
use crate::timeline::Risks;

/// Sums over the runs of a BOM.
const SUMS: &str = "count(*), coalesce(sum(events), 0)::bigint, coalesce(sum(errors), 0)::bigint, \
    coalesce(sum(risks_critical), 0)::bigint, coalesce(sum(risks_high), 0)::bigint, coalesce(sum(risks_medium), 0)::bigint, \
    coalesce(sum(pauses), 0)::bigint, coalesce(sum(paused_ms), 0)::bigint, min(first_at), max(last_at)";

/// The workflows of a BOM.
#[derive(Clone, Debug)]
pub struct BomSummary {
    /// Its runs, newest activity first, at most [`Limits::MAX_EVENTS`].
    pub runs: Vec<WorkflowRun>,
    /// Sums over all of them.
    pub sums: BomSums,
    /// Time and position that they are of.
    pub freshness: Freshness,
}

/// Sums over the workflows of a BOM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct BomSums {
    /// Number of workflows.
    pub runs: i64,
    /// Number of workflows by status.
    pub statuses: BTreeMap<String, i64>,
    /// Number of events.
    pub events: i64,
    /// Number of events of type `error`.
    pub errors: i64,
    /// Number of risk alerts, by severity.
    pub risks: Risks,
    /// Number of pauses.
    pub pauses: i64,
    /// Milliseconds of all pauses that ended.
    pub paused_ms: i64,
    /// Time of the first event.
    #[schema(required)]
    pub first_at: Option<DateTime<Utc>>,
    /// Time of the last event.
    #[schema(required)]
    pub last_at: Option<DateTime<Utc>>,
}

impl BomSums {
    fn of(sums: &[Row], statuses: &[Row]) -> Result<Self, StoreFailure> {
        let row = sums.first().ok_or_else(|| StoreFailure::unexpected("no row"))?;
        let count = |column| Ok::<_, StoreFailure>(row.try_get::<_, i64>(column)?.unsigned_abs());
        Ok(BomSums {
            runs: row.try_get(0)?,
            statuses: by_name(statuses)?,
            events: row.try_get(1)?,
            errors: row.try_get(2)?,
            risks: Risks { critical: count(3)?, high: count(4)?, medium: count(5)? },
            pauses: row.try_get(6)?,
            paused_ms: row.try_get(7)?,
            first_at: row.try_get(8)?,
            last_at: row.try_get(9)?,
        })
    }
}

impl Reader {
    /// Returns the runs of a BOM and their sums.
    ///
    /// # Errors
    /// As [`Reader::page`]; also where there are no summaries yet.
    pub async fn bom(&self, scope: &AccessScope, bom_id: Uuid) -> Result<BomSummary, SummaryError> {
        let of_bom = |select: &str, after: &str| -> Result<Typed, StoreFailure> {
            let mut wanted = Conditions::default();
            wanted.add("r.bom_id = ?", [Value::Uuid(bom_id)]);
            wanted.statement(&format!("select {select} from workflow_runs r"), after)
        };
        let newest = format!("order by r.last_at desc, r.workflow_id limit {}", Limits::MAX_EVENTS);
        let (runs, sums, statuses) = (of_bom(COLUMNS, &newest)?, of_bom(SUMS, "")?, statuses(Some(bom_id))?);
        let read = self.connections.transaction(scope, async |client| {
            let rows = |statement| rows(client, statement);
            Ok(try_join4(state(client, scope), rows(&runs), rows(&sums), rows(&statuses)).await?)
        });
        let (state, runs, sums, statuses) = read.await?;
        Ok(BomSummary {
            runs: runs.iter().map(WorkflowRun::from_row).collect::<Result<_, _>>()?,
            sums: BomSums::of(&sums, &statuses)?,
            freshness: state.summed()?,
        })
    }
}
