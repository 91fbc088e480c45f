//! Pages of workflows, newest activity first.

use chrono::{TimeDelta, Utc};
use futures_util::future::try_join;
use uuid::Uuid;

use super::super::freshness::{Freshness, SummaryError, state};
use super::super::limits::Limits;
use super::super::query::{QueryError, limit_of, text};
use super::super::reader::Reader;
use super::super::rows::rows;
use super::super::scope::AccessScope;
use super::conditions::{Conditions, Value, after_prefix};
use super::cursor::WorkflowCursor;
use super::run::{COLUMNS, WorkflowRun};
use crate::event::MAX_ID_CHARS;
use crate::store::failure::StoreFailure;
use crate::store::statement::Typed;
use crate::timeline::part_number_to_find;

/// Status that is none of a workflow's own: it is running, and silent for some time.
const STALLED: &str = "stalled";

/// Characters of a text to look for.
const MAX_CHARS: usize = 1000;

/// Conditions of a list of workflows: those that are given have to be met.
#[derive(Clone, Debug, Default)]
pub struct WorkflowFilter {
    /// Status; `stalled` finds what is running and silent.
    pub status: Option<String>,
    /// Stage.
    pub stage: Option<String>,
    /// Organization.
    pub organization: Option<String>,
    /// BOM.
    pub bom: Option<Uuid>,
    /// Part number that an event of the workflow names.
    pub mpn: Option<String>,
    /// Begin of the workflow's id.
    pub prefix: Option<String>,
}

/// Query for workflows, newest activity first.
#[derive(Clone, Debug)]
pub struct WorkflowQuery {
    filter: WorkflowFilter,
    stalled_after: TimeDelta,
    limit: usize,
    after: Option<WorkflowCursor>,
}

/// Workflows, newest activity first.
#[derive(Clone, Debug)]
pub struct WorkflowPage {
    /// At most as many runs as the query's limit.
    pub workflows: Vec<WorkflowRun>,
    /// Cursor of the next page; `None` at the end.
    pub next: Option<WorkflowCursor>,
    /// Time and position that the runs are of.
    pub freshness: Freshness,
}

impl WorkflowQuery {
    /// Returns a query. A workflow is stalled where it is running and silent for `stalled_minutes`.
    ///
    /// # Errors
    /// A limit out of 1-1000, or a text that no workflow can have.
    pub fn new(
        filter: WorkflowFilter,
        stalled_minutes: u32,
        limit: Option<usize>,
    ) -> Result<Self, QueryError> {
        for (parameter, given, max_chars) in [
            ("status", &filter.status, MAX_ID_CHARS),
            ("stage", &filter.stage, MAX_ID_CHARS),
            ("organization", &filter.organization, MAX_CHARS),
            ("mpn", &filter.mpn, MAX_CHARS),
            ("q", &filter.prefix, MAX_ID_CHARS),
        ] {
            given.as_deref().map_or(Ok(()), |given| text(parameter, given, max_chars))?;
        }
        let limit = limit_of(limit, Limits::DEFAULT_EVENTS)?;
        Ok(WorkflowQuery {
            filter,
            stalled_after: TimeDelta::minutes(stalled_minutes.into()),
            limit,
            after: None,
        })
    }

    /// Returns the query for the workflows after a cursor.
    #[must_use]
    pub fn after(self, cursor: impl Into<Option<WorkflowCursor>>) -> Self {
        WorkflowQuery { after: cursor.into(), ..self }
    }

    fn statement(&self) -> Result<Typed, StoreFailure> {
        let mut wanted = Conditions::default();
        let WorkflowFilter { status, stage, organization, bom, mpn, prefix } = &self.filter;
        match status.as_deref() {
            Some(STALLED) => {
                let silent_since = Value::Time(Utc::now() - self.stalled_after);
                wanted.add("r.status = 'running' and r.last_at < ?", [silent_since]);
            }
            _ => wanted.text("r.status = ?", status.as_ref()),
        }
        wanted.text("r.stage = ?", stage.as_ref());
        wanted.text("r.organization_id = ?", organization.as_ref());
        if let Some(bom) = bom {
            wanted.add("r.bom_id = ?", [Value::Uuid(*bom)]);
        }
        if let Some(mpn) = mpn {
            wanted.add(
                "exists (select from workflow_parts p where p.tenant_id = r.tenant_id and p.mpn = ? \
                 and p.workflow_id = r.workflow_id and p.bom_id = r.bom_id)",
                [Value::Text(part_number_to_find(mpn))],
            );
        }
        // A range and not a pattern: row-level security lets no pattern use the index.
        wanted.text("r.workflow_id >= ?", prefix.as_ref());
        wanted.text("r.workflow_id < ?", prefix.as_deref().and_then(after_prefix).as_ref());
        if let Some(WorkflowCursor { last_at, workflow_id, bom_id, tenant_id }) = &self.after {
            // The first is a range of the index; the second tells runs of the same time apart.
            wanted.add("r.last_at <= ?", [Value::Time(*last_at)]);
            wanted.add(
                "(r.last_at < ? or (r.workflow_id, r.bom_id, r.tenant_id) > (?, ?, ?))",
                [
                    Value::Time(*last_at),
                    Value::Text(workflow_id.clone()),
                    Value::Uuid(*bom_id),
                    Value::Uuid(*tenant_id),
                ],
            );
        }
        let order =
            format!("order by r.last_at desc, r.workflow_id, r.bom_id, r.tenant_id limit {}", self.limit + 1);
        wanted.statement(&format!("select {COLUMNS} from workflow_runs r"), &order)
    }
}

impl Reader {
    /// Returns the workflows after the query's cursor, at most as many as its limit.
    ///
    /// # Errors
    /// As [`Reader::page`]; also where there are no summaries yet.
    pub async fn workflows(
        &self,
        scope: &AccessScope,
        query: &WorkflowQuery,
    ) -> Result<WorkflowPage, SummaryError> {
        let statement = query.statement()?;
        let read = self.connections.transaction(scope, async |client| {
            Ok(try_join(state(client, scope), rows(client, &statement)).await?)
        });
        let (state, rows) = read.await?;
        let mut workflows: Vec<_> = rows.iter().map(WorkflowRun::from_row).collect::<Result<_, _>>()?;
        let more = workflows.len() > query.limit;
        workflows.truncate(query.limit);
        let next = workflows.last().filter(|_| more).map(WorkflowRun::cursor);
        Ok(WorkflowPage { workflows, next, freshness: state.summed()? })
    }

    /// Returns the lines of the `EXPLAIN` of a query for workflows.
    ///
    /// # Errors
    /// As [`Reader::page`].
    pub async fn explain_workflows(
        &self,
        scope: &AccessScope,
        query: &WorkflowQuery,
    ) -> Result<Vec<String>, StoreFailure> {
        let lines = self.rows(scope, &query.statement()?.explained()).await?;
        Ok(lines.iter().map(|row| row.get(0)).collect())
    }
}
