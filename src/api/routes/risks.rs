//! `/v1/risks`

use axum::Extension;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query as Parameters, State};
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;
use utoipa::openapi::path::{Parameter, ParameterIn};

use super::page::{self, JsonPage};
use super::parameters::{self, read_word};
use crate::api::caller::Caller;
use crate::api::problem::{Problem, ProblemResponses};
use crate::api::service::Api;
use crate::store::read::summaries::{Risk, RiskPage, RiskQuery, Severity};
use crate::store::read::{Limits, position_text};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RiskParameters {
    severity: Option<String>,
    hours: Option<u32>,
    limit: Option<usize>,
    cursor: Option<String>,
}

impl IntoParams for RiskParameters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![
            parameters::word("severity", "Severity to return.", &Severity::ALL.map(Severity::name), None),
            parameters::hours(),
            parameters::limit(Limits::DEFAULT_EVENTS, "risk alerts"),
            parameters::cursor(),
        ]
    }
}

/// Risk alerts, newest first.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct RiskList {
    /// At most `limit` risk alerts.
    risks: Vec<Risk>,
    /// Value of `cursor` for the next request; null at the end.
    #[schema(required, example = "AAYEkV2jGAABojv0nRJ5YrPBLnUzvjQR")]
    next_cursor: Option<String>,
    /// Position in the journal that the answer is of, for a stream that continues there; null where the database is a standby.
    #[schema(required, max_length = 8192)]
    stream_cursor: Option<String>,
}

impl From<RiskPage> for RiskList {
    fn from(page: RiskPage) -> Self {
        RiskList {
            next_cursor: page.next.map(|next| next.to_string()),
            stream_cursor: position_text(page.position.as_ref()),
            risks: page.risks,
        }
    }
}

/// Recent risk alerts of the tenant, newest first
///
/// The severity is the one that the event states, else `critical` from a score of 80 on, `high` from 60 on, and `medium`.
#[utoipa::path(
    get, path = "/v1/risks", operation_id = "recent_risks", tag = "summaries", security(("token" = [])),
    params(RiskParameters),
    responses((status = 200, description = "Events of type `risk_alert`, without their payloads", body = RiskList), ProblemResponses),
)]
pub(super) async fn recent(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    parameters: Result<Parameters<RiskParameters>, QueryRejection>,
) -> Result<JsonPage, Problem> {
    let Parameters(RiskParameters { severity, hours, limit, cursor }) = parameters?;
    let names = Severity::ALL.map(Severity::name);
    let severity = read_word("severity", severity.as_deref(), Severity::from_name, &names)?;
    let query = RiskQuery::new(severity, hours, limit)?.after(page::cursor(cursor.as_deref())?);
    let scope = caller.scope()?;
    page::answer(&api, &caller, api.parts.reader.risks(&scope, &query), |_| 0, RiskList::from).await
}
