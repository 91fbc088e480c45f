//! What can be asked.

use axum::Extension;
use axum::body::Bytes;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query as Parameters, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use tokio::sync::OwnedSemaphorePermit;
use utoipa::IntoParams;
use uuid::Uuid;

use super::openapi::Refusals;
use super::problem::{Problem, ProblemType};
use super::{Api, Caller};
use crate::store::read::{Cursor, Page, Query, QueryError, StoredEvent};

/// Characters of what is wrong with the parameters: it may quote one.
const DETAIL_CHARS: usize = 200;

/// Some events, newest first.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct EventPage {
    /// At most as many as the limit; fewer where they are large, also when there are more.
    events: Vec<StoredEvent>,
    /// Where to go on: the value of `cursor` in the next request; null at the end.
    #[schema(required, example = "AAYEkV2jGAABojv0nRJ5YrPBLnUzvjQR")]
    next_cursor: Option<String>,
}

impl From<Page> for EventPage {
    fn from(page: Page) -> Self {
        EventPage { events: page.events, next_cursor: page.next.map(|next| next.to_string()) }
    }
}

/// A page, and its place among its tenant's answers.
pub(super) struct Answer {
    page: EventPage,
    place: Option<OwnedSemaphorePermit>,
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let Ok(text) = serde_json::to_vec(&self.page) else {
            return Problem::new(ProblemType::Internal, "the events cannot be written").into_response();
        };
        let bytes = Bytes::from_owner(Sent { text, _place: self.place });
        ([(header::CONTENT_TYPE, "application/json")], bytes).into_response()
    }
}

/// An answer's bytes: its place is free when the last of them is gone.
struct Sent {
    text: Vec<u8>,
    _place: Option<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Sent {
    fn as_ref(&self) -> &[u8] {
        &self.text
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct BomParameters {
    /// Only events of these types, with commas between them.
    #[param(value_type = Option<Vec<EventType>>, style = Form, explode = false, min_items = 1, max_items = 50)]
    r#type: Option<String>,
    /// Events at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// The `next_cursor` of the answer before.
    #[param(pattern = "^[A-Za-z0-9_-]{32}$")]
    cursor: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct WorkflowParameters {
    /// Events at most.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<usize>,
    /// The `next_cursor` of the answer before.
    #[param(pattern = "^[A-Za-z0-9_-]{32}$")]
    cursor: Option<String>,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ErrorParameters {
    /// How far back.
    #[param(minimum = 1, maximum = 8760, default = 24)]
    hours: Option<u32>,
    /// Events at most.
    #[param(minimum = 1, maximum = 1000, default = 50)]
    limit: Option<usize>,
    /// The `next_cursor` of the answer before.
    #[param(pattern = "^[A-Za-z0-9_-]{32}$")]
    cursor: Option<String>,
}

/// A type of event.
#[derive(utoipa::ToSchema)]
#[schema(value_type = String, min_length = 1, max_length = 100, pattern = "^[^,\\u0000]+$")]
#[allow(dead_code)] // for the document alone
pub(super) struct EventType(String);

/// Events of a BOM, newest first
///
/// Of another tenant's BOM there are none.
#[utoipa::path(
    get, path = "/v1/boms/{bom_id}/events", tag = "events", security(("token" = [])),
    params(("bom_id" = Uuid, Path, description = "The BOM"), BomParameters),
    responses((status = 200, description = "Events", body = EventPage), Refusals),
)]
pub(super) async fn events_by_bom(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    bom_id: Result<Path<Uuid>, PathRejection>,
    parameters: Result<Parameters<BomParameters>, QueryRejection>,
) -> Result<Answer, Problem> {
    let Path(bom_id) = bom_id.map_err(|_| QueryError::new("bom_id", "is no UUID"))?;
    let Parameters(asked) = parameters?;
    let types = asked.r#type.as_deref().map(|types| types.split(',')).into_iter().flatten();
    let query = Query::events_by_bom(bom_id, types, asked.limit)?;
    answer(&api, &caller, query, asked.cursor.as_deref()).await
}

/// Events of a workflow, newest first
///
/// Of another tenant's workflow there are none.
#[utoipa::path(
    get, path = "/v1/workflows/{workflow_id}/events", tag = "events", security(("token" = [])),
    params(
        ("workflow_id" = String, Path, description = "The workflow", min_length = 1, max_length = 255, pattern = "^[^\\u0000]+$"),
        WorkflowParameters,
    ),
    responses((status = 200, description = "Events", body = EventPage), Refusals),
)]
pub(super) async fn events_by_workflow(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    workflow_id: Result<Path<String>, PathRejection>,
    parameters: Result<Parameters<WorkflowParameters>, QueryRejection>,
) -> Result<Answer, Problem> {
    let Path(workflow_id) = workflow_id.map_err(|_| QueryError::new("workflow_id", "is no UTF-8"))?;
    let Parameters(asked) = parameters?;
    let query = Query::events_by_workflow(workflow_id, asked.limit)?;
    answer(&api, &caller, query, asked.cursor.as_deref()).await
}

/// The tenant's errors of the last hours, newest first
#[utoipa::path(
    get, path = "/v1/errors", tag = "events", security(("token" = [])),
    params(ErrorParameters),
    responses((status = 200, description = "Events of type `error`", body = EventPage), Refusals),
)]
pub(super) async fn recent_errors(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    parameters: Result<Parameters<ErrorParameters>, QueryRejection>,
) -> Result<Answer, Problem> {
    let Parameters(asked) = parameters?;
    let query = Query::recent_errors(None, asked.hours, asked.limit)?;
    answer(&api, &caller, query, asked.cursor.as_deref()).await
}

async fn answer(api: &Api, caller: &Caller, query: Query, cursor: Option<&str>) -> Result<Answer, Problem> {
    let cursor = cursor.map(str::parse::<Cursor>).transpose();
    let cursor = cursor.map_err(|error| QueryError::new("cursor", error.to_string()))?;
    let share = api.0.shares.of(caller.tenant);
    let place = share.answer().await;
    let asking = share.question().await;
    let read = api.0.reader.page(&caller.scope, &query.after(cursor)).await;
    drop(asking);
    match read {
        Ok(page) => Ok(Answer { page: page.into(), place }),
        Err(failure) => {
            if let Some(unsaid) = api.0.unanswered.say() {
                tracing::warn!(
                    sqlstate = failure.sqlstate, tenant = %caller.tenant, unsaid, "cannot read events: {failure}"
                );
            }
            Err(failure.into())
        }
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        // "Failed to deserialize query string: limit: invalid digit found in string"
        let text = rejection.body_text();
        let detail = text.rsplit_once("query string: ").map_or(text.as_str(), |(_, detail)| detail);
        let detail: String = detail.chars().take(DETAIL_CHARS).collect();
        Problem::new(
            ProblemType::InvalidParameter,
            format!("{detail}; /openapi.json tells what may be asked"),
        )
    }
}
