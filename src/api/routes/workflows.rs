//! `/v1/workflows/{workflow_id}`

use axum::Extension;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query as Parameters, State};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa::openapi::path::{Parameter, ParameterIn};

use super::page::{self, EventPage, JsonPage};
use super::parameters;
use crate::api::caller::Caller;
use crate::api::problem::{Problem, ProblemResponses};
use crate::api::service::Api;
use crate::store::read::{Limits, Query, QueryError};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct WorkflowParameters {
    limit: Option<usize>,
    cursor: Option<String>,
}

impl IntoParams for WorkflowParameters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![parameters::limit(Limits::DEFAULT_EVENTS, "events"), parameters::cursor()]
    }
}

/// Events of a workflow, newest first
///
/// The list is empty for another tenant's workflow.
#[utoipa::path(
    get, path = "/v1/workflows/{workflow_id}/events", operation_id = "events_by_workflow", tag = "events",
    security(("token" = [])),
    params(
        ("workflow_id" = String, Path, description = "The workflow", min_length = 1, max_length = 255, pattern = "^[^\\u0000]+$"),
        WorkflowParameters,
    ),
    responses((status = 200, description = "Events", body = EventPage), ProblemResponses),
)]
pub(super) async fn events(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    workflow_id: Result<Path<String>, PathRejection>,
    parameters: Result<Parameters<WorkflowParameters>, QueryRejection>,
) -> Result<JsonPage, Problem> {
    let Path(workflow_id) = workflow_id.map_err(|_| QueryError::new("workflow_id", "is not UTF-8"))?;
    let Parameters(parameters) = parameters?;
    let query = Query::events_by_workflow(workflow_id, parameters.limit)?;
    page::read(&api, &caller, query, parameters.cursor.as_deref()).await
}
