//! `/v1/workflows`, `/v1/workflows/{workflow_id}` and `/v1/boms/{bom_id}`: workflows as their summaries have them.

use axum::Extension;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query as Parameters, State};
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;
use utoipa::openapi::path::{Parameter, ParameterIn};
use uuid::Uuid;

use super::page::{self, JsonPage, Marks};
use super::parameters::{self, read_time};
use crate::api::caller::Caller;
use crate::api::problem::{Problem, ProblemResponses};
use crate::api::service::Api;
use crate::store::read::summaries::{
    BomSummary, BomSums, WorkflowAt, WorkflowDetail, WorkflowFilter, WorkflowPage, WorkflowQuery,
    WorkflowRun, Workflows,
};
use crate::store::read::{Limits, QueryError};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListParameters {
    status: Option<String>,
    stage: Option<String>,
    organization: Option<String>,
    bom: Option<Uuid>,
    mpn: Option<String>,
    q: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

impl IntoParams for ListParameters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let status =
            "Status to return; `stalled` returns what is running and was silent for `api.stalled_minutes`.";
        vec![
            parameters::text("status", status, 255),
            parameters::text("stage", "Stage to return.", 255),
            parameters::text("organization", "Organization to return.", 1000),
            parameters::uuid("bom", "BOM to return."),
            parameters::text("mpn", "Part number that an event of the workflow names.", 1000),
            parameters::text("q", "Begin of the workflow's id.", 255),
            parameters::limit(Limits::DEFAULT_EVENTS, "workflows"),
            parameters::workflow_cursor(),
        ]
    }
}

/// Workflows, newest activity first.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct WorkflowList {
    /// At most `limit` workflows.
    workflows: Vec<WorkflowRun>,
    /// Value of `cursor` for the next request; null at the end.
    #[schema(required)]
    next_cursor: Option<String>,
    #[serde(flatten)]
    marks: Marks,
}

impl From<WorkflowPage> for WorkflowList {
    fn from(page: WorkflowPage) -> Self {
        WorkflowList {
            workflows: page.workflows,
            next_cursor: page.next.map(|next| next.to_string()),
            marks: page.freshness.into(),
        }
    }
}

/// Workflows, newest activity first
///
/// One for each workflow and BOM. With a token of support staff and without `tenant`, those of all tenants.
#[utoipa::path(
    get, path = "/v1/workflows", operation_id = "workflows", tag = "summaries", security(("token" = [])),
    params(ListParameters),
    responses((status = 200, description = "Workflows", body = WorkflowList), ProblemResponses),
)]
pub(super) async fn list(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    parameters: Result<Parameters<ListParameters>, QueryRejection>,
) -> Result<JsonPage, Problem> {
    let Parameters(given) = parameters?;
    let filter = WorkflowFilter {
        status: given.status,
        stage: given.stage,
        organization: given.organization,
        bom: given.bom,
        mpn: given.mpn,
        prefix: given.q,
    };
    let query = WorkflowQuery::new(filter, api.parts.stalled_minutes, given.limit)?
        .after(page::cursor(given.cursor.as_deref())?);
    let scope = caller.summaries_scope();
    page::answer(&api, &caller, api.parts.reader.workflows(&scope, &query), |_| 0, WorkflowList::from).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RunParameters {
    at: Option<String>,
}

impl IntoParams for RunParameters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let at = "Time: the answer is the workflow as its events up to it stated it.";
        vec![parameters::time("at", at)]
    }
}

/// Runs of a workflow.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct WorkflowRuns {
    /// One for each BOM, newest activity first, at most 1000.
    runs: Vec<WorkflowDetail>,
    #[serde(flatten)]
    marks: Marks,
}

impl From<Workflows> for WorkflowRuns {
    fn from(workflows: Workflows) -> Self {
        WorkflowRuns { runs: workflows.runs, marks: workflows.freshness.into() }
    }
}

/// A workflow with its stages, one run for each BOM
///
/// Exact at once: events that are not summed up yet are included. The list is empty for another tenant's workflow. With `at`, the
/// answer is made of the events that are left, and a run without events of before is not in it.
#[utoipa::path(
    get, path = "/v1/workflows/{workflow_id}", operation_id = "workflow", tag = "summaries", security(("token" = [])),
    params(
        ("workflow_id" = String, Path, description = "The workflow", min_length = 1, max_length = 255, pattern = "^[^\\u0000]+$"),
        RunParameters,
    ),
    responses((status = 200, description = "The workflow", body = WorkflowRuns), ProblemResponses),
)]
pub(super) async fn one(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    workflow_id: Result<Path<String>, PathRejection>,
    parameters: Result<Parameters<RunParameters>, QueryRejection>,
) -> Result<JsonPage, Problem> {
    let Path(workflow_id) = workflow_id.map_err(|_| QueryError::new("workflow_id", "is not UTF-8"))?;
    let Parameters(RunParameters { at }) = parameters?;
    let workflow = WorkflowAt::new(workflow_id, read_time("at", at.as_deref())?)?;
    let scope = caller.scope()?;
    page::answer(&api, &caller, api.parts.reader.workflow(&scope, &workflow), |_| 0, WorkflowRuns::from).await
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NoParameters {}

/// The workflows of a BOM.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Bom {
    /// Runs, newest activity first, at most 1000.
    runs: Vec<WorkflowRun>,
    /// Sums over all of them.
    sums: BomSums,
    #[serde(flatten)]
    marks: Marks,
}

impl From<BomSummary> for Bom {
    fn from(bom: BomSummary) -> Self {
        Bom { runs: bom.runs, sums: bom.sums, marks: bom.freshness.into() }
    }
}

/// The workflows of a BOM and their sums
///
/// The list is empty for another tenant's BOM.
#[utoipa::path(
    get, path = "/v1/boms/{bom_id}", operation_id = "bom", tag = "summaries", security(("token" = [])),
    params(("bom_id" = Uuid, Path, description = "The BOM")),
    responses((status = 200, description = "The BOM", body = Bom), ProblemResponses),
)]
pub(super) async fn bom(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    bom_id: Result<Path<Uuid>, PathRejection>,
    parameters: Result<Parameters<NoParameters>, QueryRejection>,
) -> Result<JsonPage, Problem> {
    let Path(bom_id) = bom_id.map_err(|_| QueryError::new("bom_id", "is not a UUID"))?;
    let Parameters(NoParameters {}) = parameters?;
    let scope = caller.scope()?;
    page::answer(&api, &caller, api.parts.reader.bom(&scope, bom_id), |_| 0, Bom::from).await
}
