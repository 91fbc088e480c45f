//! `/v1/stages`

use axum::Extension;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query as Parameters, State};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;
use utoipa::openapi::path::{Parameter, ParameterIn};

use super::page::{self, JsonPage, Marks};
use super::parameters::{self, read_time};
use crate::api::caller::Caller;
use crate::api::problem::{Problem, ProblemResponses};
use crate::api::service::Api;
use crate::store::read::summaries::{StageTimes, StagesQuery};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StageParameters {
    from: Option<String>,
    to: Option<String>,
}

impl IntoParams for StageParameters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let from = "Begin; by default 24 hours before the end, and at most 400 days.";
        vec![parameters::time("from", from), parameters::time("to", "End; by default now.")]
    }
}

/// Durations of stages.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct StageList {
    /// Begin, a whole hour.
    from: DateTime<Utc>,
    /// End, which is not included.
    to: DateTime<Utc>,
    /// The 100 stages that were completed most often, by name.
    stages: Vec<StageTimes>,
    #[serde(flatten)]
    marks: Marks,
}

/// Durations of stages: median and percentiles, exact to 10 %
///
/// Of stages that were completed with a `duration_ms`, by the hour of the event. With a token of support staff and without `tenant`, of
/// all tenants.
#[utoipa::path(
    get, path = "/v1/stages", operation_id = "stages", tag = "summaries", security(("token" = [])),
    params(StageParameters),
    responses((status = 200, description = "Durations", body = StageList), ProblemResponses),
)]
pub(super) async fn stages(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    parameters: Result<Parameters<StageParameters>, QueryRejection>,
) -> Result<JsonPage, Problem> {
    let Parameters(StageParameters { from, to }) = parameters?;
    let query = StagesQuery::new(read_time("from", from.as_deref())?, read_time("to", to.as_deref())?)?;
    let (scope, span) = (caller.summaries_scope(), query.span());
    let body = |(stages, freshness): (_, crate::store::read::Freshness)| StageList {
        from: span.from,
        to: span.to,
        stages,
        marks: freshness.into(),
    };
    page::answer(&api, &caller, api.parts.reader.stages(&scope, &query), |_| 0, body).await
}
