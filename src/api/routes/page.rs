//! One page of events as a response.

use axum::body::Bytes;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;

use crate::api::event::EventBody;
use crate::api::problem::{Problem, ProblemType};
use crate::api::service::Api;
use crate::api::token::Caller;
use crate::store::read::{Cursor, Page, Query, QueryError, StoredEvent};

/// Events, newest first.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct EventPage {
    /// At most `limit` events; fewer if they are large, even if there are more.
    events: Vec<EventBody>,
    /// Value of `cursor` for the next request; null at the end.
    #[schema(required, example = "AAYEkV2jGAABojv0nRJ5YrPBLnUzvjQR")]
    next_cursor: Option<String>,
}

impl From<Page> for EventPage {
    fn from(page: Page) -> Self {
        EventPage {
            events: page.events.into_iter().map(EventBody::from).collect(),
            next_cursor: page.next.map(|next| next.to_string()),
        }
    }
}

/// The JSON text of a page. It keeps the tenant's response permit until the last byte is sent.
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

/// Reads the page of a query that begins behind the cursor.
pub(super) async fn read(
    api: &Api,
    caller: &Caller,
    query: Query,
    cursor: Option<&str>,
) -> Result<JsonPage, Problem> {
    let cursor = cursor.map(str::parse::<Cursor>).transpose();
    let cursor = cursor.map_err(|error| QueryError::new("cursor", error.to_string()))?;
    let limit = api.parts.tenant_limits.of(caller.tenant);
    let running_query = limit.query().await;
    let read = api.parts.reader.page(&caller.scope, &query.after(cursor)).await;
    let page = read.map_err(|failure| {
        if let Some(suppressed) = api.parts.failed_reads.allow() {
            let sqlstate = failure.sqlstate.as_deref();
            tracing::warn!(sqlstate, tenant = %caller.tenant, suppressed, error = %failure, "cannot read events: {failure}");
        }
        Problem::from(failure)
    })?;
    let mut text = Vec::with_capacity(page.events.iter().map(StoredEvent::json_bytes).sum());
    serde_json::to_writer(&mut text, &EventPage::from(page))
        .map_err(|_| Problem::new(ProblemType::Internal, "cannot serialize the events"))?;
    let permit = limit.response(text.len()).await;
    drop(running_query);
    Ok(JsonPage { text, _permit: permit })
}
