//! `/v1/boms/{bom_id}`

use axum::Extension;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query as Parameters, State};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa::openapi::path::{Parameter, ParameterIn};
use uuid::Uuid;

use super::page::{self, EventPage, JsonPage};
use super::parameters;
use crate::api::caller::Caller;
use crate::api::problem::{Problem, ProblemResponses};
use crate::api::service::Api;
use crate::store::read::{Limits, Query, QueryError};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BomParameters {
    r#type: Option<String>,
    limit: Option<usize>,
    cursor: Option<String>,
}

impl IntoParams for BomParameters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![parameters::types(), parameters::limit(Limits::DEFAULT_EVENTS, "events"), parameters::cursor()]
    }
}

/// Events of a BOM, newest first
///
/// The list is empty for another tenant's BOM.
#[utoipa::path(
    get, path = "/v1/boms/{bom_id}/events", operation_id = "events_by_bom", tag = "events", security(("token" = [])),
    params(("bom_id" = Uuid, Path, description = "The BOM"), BomParameters),
    responses((status = 200, description = "Events", body = EventPage), ProblemResponses),
)]
pub(super) async fn events(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    bom_id: Result<Path<Uuid>, PathRejection>,
    parameters: Result<Parameters<BomParameters>, QueryRejection>,
) -> Result<JsonPage, Problem> {
    let Path(bom_id) = bom_id.map_err(|_| QueryError::new("bom_id", "is not a UUID"))?;
    let Parameters(parameters) = parameters?;
    let types = parameters.r#type.as_deref().map(|types| types.split(',')).into_iter().flatten();
    let query = Query::events_by_bom(bom_id, types, parameters.limit)?;
    page::read(&api, &caller, query, parameters.cursor.as_deref()).await
}
