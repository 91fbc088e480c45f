//! A workflow's run, as the summaries have it.

use chrono::{DateTime, Utc};
use serde::Serialize;
use tokio_postgres::Row;
use uuid::Uuid;

use super::cursor::WorkflowCursor;
use crate::store::failure::StoreFailure;
use crate::timeline::{Risks, Run};

/// Columns of [`WorkflowRun`], in its order.
pub(super) const COLUMNS: &str = "r.tenant_id, r.workflow_id, r.bom_id, r.organization_id, r.status, r.stage, r.total_items, \
    r.completed_items, r.failed_items, r.percent, r.events, r.errors, r.last_error, r.risks_critical, r.risks_high, r.risks_medium, \
    r.pauses, r.paused_ms, r.first_at, r.last_at, r.ended_at";

/// Run of a workflow over one BOM: its state as its events state it, and sums of what happened.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct WorkflowRun {
    /// Tenant that owns the workflow.
    pub tenant_id: Uuid,
    /// The workflow.
    #[schema(max_length = 255)]
    pub workflow_id: String,
    /// The BOM.
    pub bom_id: Uuid,
    /// Organization, as the producer names it.
    #[schema(required)]
    pub organization_id: Option<String>,
    /// Status that was stated last, else `running`.
    #[schema(example = "running")]
    pub status: String,
    /// Stage that was stated last.
    #[schema(required, example = "enrichment")]
    pub stage: Option<String>,
    /// Lines of the BOM.
    #[schema(required)]
    pub total_items: Option<i64>,
    /// Lines that are done: as stated, else as counted.
    #[schema(required)]
    pub completed_items: Option<i64>,
    /// Lines that failed: as stated, else as counted.
    #[schema(required)]
    pub failed_items: Option<i64>,
    /// Progress in percent: as stated, else from the counts.
    #[schema(required)]
    pub percent: Option<i64>,
    /// Number of events.
    pub events: i64,
    /// Number of events of type `error`.
    pub errors: i64,
    /// Description of the last error.
    #[schema(required)]
    pub last_error: Option<String>,
    /// Number of risk alerts, by severity.
    pub risks: Risks,
    /// Number of pauses.
    pub pauses: i64,
    /// Milliseconds of all pauses that ended.
    pub paused_ms: i64,
    /// Time of the first event.
    pub first_at: DateTime<Utc>,
    /// Time of the last event.
    pub last_at: DateTime<Utc>,
    /// Time of the event that gave a final status, where the status is final.
    #[schema(required)]
    pub ended_at: Option<DateTime<Utc>>,
}

impl WorkflowRun {
    /// Reads a row of [`COLUMNS`].
    pub(super) fn from_row(row: &Row) -> Result<Self, StoreFailure> {
        let count = |column| Ok::<_, StoreFailure>(row.try_get::<_, i64>(column)?.unsigned_abs());
        Ok(WorkflowRun {
            tenant_id: row.try_get(0)?,
            workflow_id: row.try_get(1)?,
            bom_id: row.try_get(2)?,
            organization_id: row.try_get(3)?,
            status: row.try_get(4)?,
            stage: row.try_get(5)?,
            total_items: row.try_get(6)?,
            completed_items: row.try_get(7)?,
            failed_items: row.try_get(8)?,
            percent: row.try_get(9)?,
            events: row.try_get(10)?,
            errors: row.try_get(11)?,
            last_error: row.try_get(12)?,
            risks: Risks { critical: count(13)?, high: count(14)?, medium: count(15)? },
            pauses: row.try_get(16)?,
            paused_ms: row.try_get(17)?,
            first_at: row.try_get(18)?,
            last_at: row.try_get(19)?,
            ended_at: row.try_get(20)?,
        })
    }

    /// Returns the state that follows from a run's events; `None` where it has none.
    pub(super) fn of(tenant_id: Uuid, workflow_id: &str, bom_id: Uuid, run: &Run) -> Option<Self> {
        let summary = run.summary()?;
        let whole = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
        Some(WorkflowRun {
            tenant_id,
            workflow_id: workflow_id.to_owned(),
            bom_id,
            organization_id: summary.organization_id,
            status: summary.status,
            stage: summary.stage,
            total_items: summary.total_items.map(whole),
            completed_items: summary.completed_items.map(whole),
            failed_items: summary.failed_items.map(whole),
            percent: summary.percent.map(whole),
            events: whole(summary.events),
            errors: whole(summary.errors),
            last_error: summary.last_error,
            risks: summary.risks,
            pauses: whole(summary.pauses),
            paused_ms: summary.paused_ms,
            first_at: summary.first_at,
            last_at: summary.last_at,
            ended_at: summary.ended_at,
        })
    }

    /// Returns the cursor of the runs after this one.
    #[must_use]
    pub fn cursor(&self) -> WorkflowCursor {
        WorkflowCursor {
            last_at: self.last_at,
            workflow_id: self.workflow_id.clone(),
            bom_id: self.bom_id,
            tenant_id: self.tenant_id,
        }
    }
}
