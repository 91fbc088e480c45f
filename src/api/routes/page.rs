//! Reads of the database as responses: one page of events, or another answer.

use std::str::FromStr;

use axum::body::Bytes;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;

use crate::api::caller::Caller;
use crate::api::event::EventBody;
use crate::api::problem::{Problem, ProblemType};
use crate::api::service::Api;
use crate::store::read::{
    CursorError, Freshness, Page, Query, QueryError, StoredEvent, SummaryError, position_text,
};

/// SQLSTATE of a role that the login may not take.
const INSUFFICIENT_PRIVILEGE: &str = "42501";

/// Events, newest first.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct EventPage {
    /// At most `limit` events; fewer if they are large, even if there are more.
    events: Vec<EventBody>,
    /// Value of `cursor` for the next request; null at the end.
    #[schema(required, example = "AAYEkV2jGAABojv0nRJ5YrPBLnUzvjQR")]
    next_cursor: Option<String>,
    /// Position in the journal that the answer is of, for a stream that continues there; null where the database is a standby.
    #[schema(required, max_length = 8192)]
    stream_cursor: Option<String>,
}

impl From<Page> for EventPage {
    fn from(page: Page) -> Self {
        EventPage {
            next_cursor: page.next.map(|next| next.to_string()),
            stream_cursor: position_text(page.position.as_ref()),
            events: page.events.into_iter().map(EventBody::from).collect(),
        }
    }
}

/// The JSON text of an answer. It keeps the tenant's response permit until the last byte is sent.
pub(super) struct JsonPage {
    text: Vec<u8>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for JsonPage {
    fn as_ref(&self) -> &[u8] {
        &self.text
    }
}

impl IntoResponse for JsonPage {
    fn into_response(self) -> Response {
        ([(header::CONTENT_TYPE, "application/json")], Bytes::from_owner(self)).into_response()
    }
}

/// Time and position that an answer made of summaries is of.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Marks {
    /// Everything that was stored before this time is in the answer.
    as_of: DateTime<Utc>,
    /// Position in the journal that the answer is of, for a stream that continues there; null where the database is a standby.
    #[schema(required, max_length = 8192)]
    stream_cursor: Option<String>,
}

impl From<Freshness> for Marks {
    fn from(freshness: Freshness) -> Self {
        Marks { as_of: freshness.as_of, stream_cursor: position_text(freshness.position.as_ref()) }
    }
}

/// Reads within the limits of the caller's tenant, and writes what `body` makes of it. `bytes` is its size, more or less.
pub(super) async fn answer<T, B: Serialize>(
    api: &Api,
    caller: &Caller,
    read: impl Future<Output = Result<T, impl Into<SummaryError>>>,
    bytes: impl FnOnce(&T) -> usize,
    body: impl FnOnce(T) -> B,
) -> Result<JsonPage, Problem> {
    let limit = api.parts.tenant_limits.of(caller.limited_as());
    let running_query = limit.query().await;
    let read = read.await.map_err(|error| failed(api, caller, error.into()))?;
    let mut text = Vec::with_capacity(bytes(&read));
    serde_json::to_writer(&mut text, &body(read))
        .map_err(|_| Problem::new(ProblemType::Internal, "cannot serialize the answer"))?;
    let permit = limit.response(text.len()).await;
    drop(running_query);
    Ok(JsonPage { text, _permit: permit })
}

/// Logs a read that failed, and returns its problem.
pub(super) fn failed(api: &Api, caller: &Caller, error: SummaryError) -> Problem {
    if let SummaryError::Failed(failure) = &error {
        // The role of support staff was refused: no other statement of its reads needs a privilege that a tenant's do not.
        if caller.is_support() && failure.sqlstate.as_deref() == Some(INSUFFICIENT_PRIVILEGE) {
            let refused = "the database login of this service is not a member of cns_events_support";
            return Problem::new(ProblemType::Forbidden, refused);
        }
        if let Some(suppressed) = api.parts.failed_reads.allow() {
            let (sqlstate, tenant) = (failure.sqlstate.as_deref(), caller.limited_as());
            tracing::warn!(sqlstate, %tenant, suppressed, error = %failure, "cannot read: {failure}");
        }
    }
    error.into()
}

/// Reads the page of a query that begins behind the cursor.
pub(super) async fn read(
    api: &Api,
    caller: &Caller,
    query: Query,
    cursor: Option<&str>,
) -> Result<JsonPage, Problem> {
    let (scope, query) = (caller.scope()?, query.after(self::cursor(cursor)?));
    let size = |page: &Page| page.events.iter().map(StoredEvent::json_bytes).sum();
    answer(api, caller, api.parts.reader.page(&scope, &query), size, EventPage::from).await
}

/// Reads a cursor.
pub(super) fn cursor<C: FromStr<Err = CursorError>>(given: Option<&str>) -> Result<Option<C>, QueryError> {
    given.map(C::from_str).transpose().map_err(|error| QueryError::new("cursor", error.to_string()))
}
