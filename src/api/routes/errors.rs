//! `/v1/errors`

use axum::Extension;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query as Parameters, State};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa::openapi::path::{Parameter, ParameterIn};

use super::page::{self, EventPage, JsonPage};
use super::parameters;
use crate::api::caller::Caller;
use crate::api::problem::{Problem, ProblemResponses};
use crate::api::service::Api;
use crate::store::read::{Limits, Query};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ErrorParameters {
    hours: Option<u32>,
    limit: Option<usize>,
    cursor: Option<String>,
}

impl IntoParams for ErrorParameters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![parameters::hours(), parameters::limit(Limits::DEFAULT_ERRORS, "events"), parameters::cursor()]
    }
}

/// Recent errors of the tenant, newest first
#[utoipa::path(
    get, path = "/v1/errors", operation_id = "recent_errors", tag = "events", security(("token" = [])),
    params(ErrorParameters),
    responses((status = 200, description = "Events of type `error`", body = EventPage), ProblemResponses),
)]
pub(super) async fn recent(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    parameters: Result<Parameters<ErrorParameters>, QueryRejection>,
) -> Result<JsonPage, Problem> {
    let Parameters(parameters) = parameters?;
    let query = Query::recent_errors(None, parameters.hours, parameters.limit)?;
    page::read(&api, &caller, query, parameters.cursor.as_deref()).await
}
