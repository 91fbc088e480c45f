//! `/v1/summary`

use std::collections::BTreeMap;

use axum::Extension;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query as Parameters, State};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;
use utoipa::openapi::path::{Parameter, ParameterIn};

use super::page::{self, JsonPage, Marks};
use super::parameters::{self, read_time, read_word};
use crate::api::caller::Caller;
use crate::api::problem::{Problem, ProblemResponses};
use crate::api::service::Api;
use crate::store::read::summaries::{By, Counts, CountsQuery, CountsStep, Step};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SummaryParameters {
    from: Option<String>,
    to: Option<String>,
    step: Option<String>,
    by: Option<String>,
}

impl IntoParams for SummaryParameters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        let from = "Begin; by default 24 hours before the end, with `step=day` 30 days. At most 31 days before it, with \
                    `step=day` 400.";
        vec![
            parameters::time("from", from),
            parameters::time("to", "End; by default now."),
            parameters::word(
                "step",
                "Length of the steps, in UTC.",
                &Step::ALL.map(Step::name),
                Some(Step::Hour.name()),
            ),
            parameters::word(
                "by",
                "Property that events are counted by.",
                &By::ALL.map(By::name),
                Some(By::Type.name()),
            ),
        ]
    }
}

/// Numbers of events and workflows.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Summary {
    /// Begin, a whole hour or day.
    from: DateTime<Utc>,
    /// End, which is not included.
    to: DateTime<Utc>,
    /// Steps that have events, oldest first.
    steps: Vec<CountsStep>,
    /// Number of events of all steps by type, or by source.
    totals: BTreeMap<String, i64>,
    /// Number of workflows by status, whenever they were active; the 50 most frequent statuses.
    workflows: BTreeMap<String, i64>,
    #[serde(flatten)]
    marks: Marks,
}

impl From<Counts> for Summary {
    fn from(counts: Counts) -> Self {
        Summary {
            from: counts.span.from,
            to: counts.span.to,
            totals: counts.totals(),
            steps: counts.steps,
            workflows: counts.workflows,
            marks: counts.freshness.into(),
        }
    }
}

/// Numbers of events by hour or day, and of workflows by status
///
/// Event types outside of the contract's table count as `other`. With a token of support staff and without `tenant`, of all tenants.
#[utoipa::path(
    get, path = "/v1/summary", operation_id = "summary", tag = "summaries", security(("token" = [])),
    params(SummaryParameters),
    responses((status = 200, description = "Numbers", body = Summary), ProblemResponses),
)]
pub(super) async fn summary(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    parameters: Result<Parameters<SummaryParameters>, QueryRejection>,
) -> Result<JsonPage, Problem> {
    let Parameters(SummaryParameters { from, to, step, by }) = parameters?;
    let (from, to) = (read_time("from", from.as_deref())?, read_time("to", to.as_deref())?);
    let step = read_word("step", step.as_deref(), Step::from_name, &Step::ALL.map(Step::name))?;
    let by = read_word("by", by.as_deref(), By::from_name, &By::ALL.map(By::name))?;
    let query = CountsQuery::new(from, to, step.unwrap_or(Step::Hour), by.unwrap_or(By::Type))?;
    let scope = caller.summaries_scope();
    page::answer(&api, &caller, api.parts.reader.counts(&scope, &query), |_| 0, Summary::from).await
}
