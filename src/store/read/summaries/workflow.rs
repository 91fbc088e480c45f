//! One workflow, exact at once: its summary with the events that are not summed up folded on top, or its events as of a time.

use std::collections::BTreeMap;
use std::pin::pin;

use chrono::{DateTime, Utc};
use diesel::sql_types::{Text, Timestamptz};
use futures_util::TryStreamExt;
use futures_util::future::try_join4;
use serde::Serialize;
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use super::super::event::StoredEvent;
use super::super::freshness::{Freshness, State, not_summed, state};
use super::super::limits::Limits;
use super::super::query::{QueryError, workflow_id};
use super::super::reader::Reader;
use super::super::rows::rows;
use super::super::scope::AccessScope;
use super::run::WorkflowRun;
use crate::event::EventType;
use crate::store::failure::StoreFailure;
use crate::store::statement::Typed;
use crate::timeline::{Run, Stage, Stages};

/// Columns of an event, in the schema's order.
const EVENT: &str = "id, event_id, event_type, routing_key, bom_id, tenant_id, organization_id, project_id, user_id, source, \
    workflow_id, state, payload, created_at";

/// Number of those columns: the next one is set where the event is not summed up.
const NOT_SUMMED: usize = 14;

/// Runs of one workflow.
#[derive(Clone, Debug)]
pub struct Workflows {
    /// One for each BOM, newest activity first, at most [`Limits::MAX_EVENTS`].
    pub runs: Vec<WorkflowDetail>,
    /// Time and position of the read: everything is in it.
    pub freshness: Freshness,
}

/// A workflow's run with its stages.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct WorkflowDetail {
    /// The run.
    #[serde(flatten)]
    pub run: WorkflowRun,
    /// Stages in the order of their start; null where events of the run were deleted.
    #[schema(required)]
    pub stages: Option<Vec<Stage>>,
}

/// A run in the making.
#[derive(Debug, Default)]
struct Parts {
    tenant_id: Uuid,
    /// Stored summary.
    summed: Option<Run>,
    /// Events that are not summed up; as of a time, all up to it.
    events: Run,
    stages: Stages,
    /// Number of events that are left.
    left: u64,
}

impl Parts {
    /// Returns the run with its stages; `None` where no event is left, or none of before the time.
    fn detail(self, bom_id: Uuid, workflow: &WorkflowAt, state: &State) -> Option<WorkflowDetail> {
        let summed = self.summed.as_ref().and_then(Run::summary);
        let deleted = summed
            .is_some_and(|summed| summed.first_at < state.events_pruned_before || self.left < summed.events);
        let run = match self.summed {
            Some(mut run) if workflow.at.is_none() => {
                match (state.continued, deleted) {
                    (true, _) => run.merge(self.events),
                    // All events that are left were folded: the sums of those that are deleted stay.
                    (false, true) => run.merge_statements(self.events),
                    (false, false) => run = self.events,
                }
                run
            }
            _ => self.events,
        };
        let run = WorkflowRun::of(self.tenant_id, &workflow.workflow_id, bom_id, &run)?;
        let complete = !deleted && (workflow.at.is_some() || run.events.unsigned_abs() <= self.left);
        Some(WorkflowDetail { run, stages: complete.then(|| self.stages.list()) })
    }
}

impl Reader {
    /// Returns the runs of a workflow: as of now, or as its events that are left stated them at a time.
    ///
    /// # Errors
    /// As [`Reader::page`].
    pub async fn workflow(
        &self,
        scope: &AccessScope,
        workflow: &WorkflowAt,
    ) -> Result<Workflows, StoreFailure> {
        let (stored, events, left) = (workflow.stored()?, workflow.events()?, workflow.left()?);
        let read = self.connections.transaction(scope, async |client| {
            let folded = async {
                let mut parts = BTreeMap::new();
                fold(client, &events, &mut parts).await?;
                Ok(parts)
            };
            Ok(try_join4(state(client, scope), rows(client, &stored), folded, rows(client, &left)).await?)
        });
        let (state, stored, mut parts, left) = read.await?;
        for row in &left {
            parts.entry(row.try_get(0)?).or_default().left = row.try_get::<_, i64>(1)?.unsigned_abs();
        }
        for row in &stored {
            add_summary(row, &mut parts)?;
        }
        let runs = parts.into_iter().filter_map(|(bom_id, parts)| parts.detail(bom_id, workflow, &state));
        let mut runs: Vec<WorkflowDetail> = runs.collect();
        runs.sort_by(|a, b| b.run.last_at.cmp(&a.run.last_at).then(a.run.bom_id.cmp(&b.run.bom_id)));
        runs.truncate(Limits::MAX_EVENTS);
        Ok(Workflows { runs, freshness: Freshness { as_of: state.now, position: state.here } })
    }
}

/// A workflow, as of now or of a time.
#[derive(Clone, Debug)]
pub struct WorkflowAt {
    workflow_id: String,
    at: Option<DateTime<Utc>>,
}

impl WorkflowAt {
    /// Returns a workflow as of now, or as it was `at` a time.
    ///
    /// # Errors
    /// An id that no workflow can have.
    pub fn new(id: impl Into<String>, at: Option<DateTime<Utc>>) -> Result<Self, QueryError> {
        Ok(WorkflowAt { workflow_id: workflow_id(id.into())?, at })
    }

    /// Builds the statement for the stored summaries.
    fn stored(&self) -> Result<Typed, StoreFailure> {
        let stored = "select tenant_id, bom_id, fold::text from workflow_runs where workflow_id = $1";
        Typed::of(&diesel::sql_query(stored).bind::<Text, _>(&self.workflow_id))
    }

    /// Builds the statement for the events to fold: those that are not summed up and those that state stages, or those up to the time.
    fn events(&self) -> Result<Typed, StoreFailure> {
        let events = format!("select {EVENT}, {{}} from enrichment_events where workflow_id = $1 and");
        match self.at {
            Some(at) => {
                let events = format!("{} created_at <= $2", events.replace("{}", "true"));
                Typed::of(
                    &diesel::sql_query(events).bind::<Text, _>(&self.workflow_id).bind::<Timestamptz, _>(at),
                )
            }
            None => {
                let new = not_summed();
                let stages = [EventType::StageStarted, EventType::StageCompleted].map(EventType::name);
                let stages = stages.map(|name| format!("'{name}'")).join(", ");
                let events = events.replace("{}", &new);
                let statement = format!("{events} (event_type in ({stages}) or {new})");
                Typed::of(&diesel::sql_query(statement).bind::<Text, _>(&self.workflow_id))
            }
        }
    }

    /// Builds the statement for the number of events that are left, by BOM.
    fn left(&self) -> Result<Typed, StoreFailure> {
        let left = "select bom_id, count(*) from enrichment_events where workflow_id = $1 group by bom_id";
        Typed::of(&diesel::sql_query(left).bind::<Text, _>(&self.workflow_id))
    }
}

/// Folds events as they come: a workflow may have more than fit into memory.
async fn fold(
    client: &Client,
    events: &Typed,
    parts: &mut BTreeMap<Uuid, Parts>,
) -> Result<(), StoreFailure> {
    let mut rows = pin!(events.query(client).await?);
    while let Some(row) = rows.try_next().await? {
        let event = StoredEvent::from_row(&row)?;
        let parts = parts.entry(event.bom_id).or_default();
        parts.tenant_id = event.tenant_id;
        if row.try_get(NOT_SUMMED)? {
            parts.events.add(&event.timeline());
        }
        parts.stages.add(&event.timeline());
    }
    Ok(())
}

fn add_summary(row: &Row, parts: &mut BTreeMap<Uuid, Parts>) -> Result<(), StoreFailure> {
    let unreadable =
        |error| StoreFailure::unreadable(&format!("the fold of a stored workflow cannot be read: {error}"));
    let parts = parts.entry(row.try_get(1)?).or_default();
    parts.tenant_id = row.try_get(0)?;
    parts.summed = Some(serde_json::from_str(row.try_get(2)?).map_err(unreadable)?);
    Ok(())
}
