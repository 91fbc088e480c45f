//! `/v1/stream`: events as they are stored, as Server-Sent Events and over WebSocket.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query as Parameters, State};
use axum::http::{HeaderMap, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use chrono::{SecondsFormat, Utc};
use futures_util::stream;
use serde::Deserialize;
use serde_json::json;
use tokio::time::Instant;
use utoipa::IntoParams;
use utoipa::openapi::path::{Parameter, ParameterIn};
use uuid::Uuid;

use super::{page, parameters};
use crate::api::caller::Caller;
use crate::api::problem::{Problem, ProblemResponses, ProblemType};
use crate::api::service::Api;
use crate::live::{Filter, Item, LiveEvent, Subscription, TooMany};
use crate::store::journal::Position;
use crate::store::read::{Query, QueryError};

/// Interval of the comments that keep a connection open.
const PING: Duration = Duration::from_secs(15);

/// Interval of the event `clock`, which a page can see, and whose id is the position so far.
const CLOCK: Duration = Duration::from_secs(60);

/// Longest life of a stream, more or less: a client comes back where it was, perhaps to another replica.
const LIFE: Duration = Duration::from_secs(600);

/// Pause that a client is asked to make before it comes back, in milliseconds.
const RETRY_MS: u64 = 1000;

/// Pause for a client that finds no room.
const FULL_RETRY: Duration = Duration::from_secs(5);

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::api) struct StreamParameters {
    bom_id: Option<String>,
    workflow_id: Option<String>,
    r#type: Option<String>,
    after: Option<String>,
    /// Tenant that support staff reads as. Authentication takes it from every request but one of a WebSocket.
    pub(in crate::api) tenant: Option<String>,
}

impl IntoParams for StreamParameters {
    fn into_params(_: impl Fn() -> Option<ParameterIn>) -> Vec<Parameter> {
        vec![parameters::bom_id(), parameters::workflow_id(), parameters::types(), parameters::after()]
    }
}

/// One event of the stream; only for the document.
#[derive(utoipa::ToSchema)]
#[allow(dead_code)] // the derived schema is used, the value is not
pub(in crate::api) struct StreamEvent {
    /// `event`, `clock` or `reset`.
    event: String,
    /// Position after it.
    #[schema(max_length = 8192)]
    id: Option<String>,
    /// JSON: an event, the time, or the reason of a reset.
    data: String,
}

impl StreamParameters {
    /// Returns the events that the caller wants, and the position after which they are wanted.
    pub(in crate::api) fn read(&self, headers: &HeaderMap) -> Result<(Filter, Option<Position>), Problem> {
        let bom_id = self.bom_id.as_deref().map(Uuid::try_parse).transpose();
        let bom_id = bom_id.map_err(|_| QueryError::new("bom_id", "is not a UUID"))?;
        let types: Vec<&str> = self.r#type.iter().flat_map(|types| types.split(',')).collect();
        // The queries of the other endpoints check the same parameters.
        Query::events_by_bom(bom_id.unwrap_or_default(), types.iter().copied(), None)?;
        if let Some(workflow_id) = &self.workflow_id {
            Query::events_by_workflow(workflow_id, None)?;
        }
        let header = headers.get("last-event-id").map(|id| id.to_str().unwrap_or("?"));
        let after = header.filter(|id| !id.is_empty()).or(self.after.as_deref());
        let after = after.map(str::parse::<Position>).transpose();
        let after = after.map_err(|error| QueryError::new("after", error.to_string()))?;
        let filter = Filter {
            bom_id,
            workflow_id: self.workflow_id.clone(),
            types: types.into_iter().map(str::to_owned).collect(),
        };
        Ok((filter, after))
    }
}

/// Events of the tenant as they are stored, as Server-Sent Events
///
/// Each event has the position after it as its id. With `Last-Event-ID`, or `after`, the stream goes on exactly there, on any replica;
/// without, it begins now. `event: reset` says that it cannot, with the reason, and goes on from now.
#[utoipa::path(
    get, path = "/v1/stream", operation_id = "stream", tag = "stream", security(("token" = [])),
    params(StreamParameters),
    responses((status = 200, description = "`event: event` with an event as in the other endpoints; `event: clock`; `event: reset`",
        content_type = "text/event-stream", body = StreamEvent), ProblemResponses),
)]
pub(in crate::api) async fn events(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    parameters: Result<Parameters<StreamParameters>, QueryRejection>,
) -> Result<Response, Problem> {
    let Parameters(parameters) = parameters?;
    let (filter, after) = parameters.read(&headers)?;
    let watch = Watch::start(&api, &caller, filter, after, "sse").await?;
    let body = Body::from_stream(stream::unfold(Sse::new(watch), Sse::next));
    let mut response = body.into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    // Proxies would collect events otherwise.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    Ok(response)
}

/// One stream: a subscription, with the bounds of its life.
pub(in crate::api) struct Watch {
    api: Api,
    subscription: Subscription,
    kind: &'static str,
    /// End of the token, of the stream's own life, or of the process.
    ends_at: Instant,
    ping_at: Instant,
    clock_at: Instant,
}

/// Next thing to send.
pub(in crate::api) enum Next {
    Event(Arc<LiveEvent>, Position),
    Clock(Position),
    Reset(String, Position),
    Ping,
    End,
}

impl Watch {
    /// Starts a stream. One of support staff needs a database login that may read as such.
    pub(in crate::api) async fn start(
        api: &Api,
        caller: &Caller,
        filter: Filter,
        after: Option<Position>,
        kind: &'static str,
    ) -> Result<Watch, Problem> {
        let (tenant, scope) = caller.tenant_and_scope()?;
        if caller.is_support() {
            let allowed = api.parts.reader.can_read(&scope).await;
            allowed.map_err(|failure| page::failed(api, caller, failure.into()))?;
        }
        let subscription = Subscription::start(&api.parts.hub, tenant, scope, filter, after)?;
        api.parts.metrics.streams.with_label_values(&[kind]).inc();
        let now = Instant::now();
        let of_token = (caller.expires_at - Utc::now()).to_std().unwrap_or_default();
        let ends_at = now + of_token.min(LIFE.mul_f64(0.8 + 0.4 * spread()));
        Ok(Watch {
            api: api.clone(),
            subscription,
            kind,
            ends_at,
            ping_at: now + PING,
            clock_at: now + CLOCK,
        })
    }

    /// Waits for the next thing to send. Cancel-safe.
    pub(in crate::api) async fn next(&mut self) -> Next {
        loop {
            let shutdown = self.api.parts.streams_end.clone();
            tokio::select! {
                item = self.subscription.next() => {
                    self.ping_at = Instant::now() + PING;
                    return match item {
                        Item::Event(event, position) => {
                            let lag = (Utc::now() - event.stored_at).to_std().unwrap_or_default();
                            self.api.parts.metrics.stream_lag.observe(lag.as_secs_f64());
                            Next::Event(event, position)
                        }
                        Item::At(position) => Next::Clock(position),
                        Item::Reset(reason, position) => Next::Reset(reason.to_string(), position),
                    };
                }
                () = tokio::time::sleep_until(self.ends_at) => return Next::End,
                () = tokio::time::sleep_until(self.ping_at) => {
                    self.ping_at = Instant::now() + PING;
                    return Next::Ping;
                }
                () = tokio::time::sleep_until(self.clock_at) => {
                    self.clock_at = Instant::now() + CLOCK;
                    if let Some(position) = self.subscription.position() {
                        return Next::Clock(position.clone());
                    }
                }
                // Not all at once: a crowd would come back to the other replicas in one moment.
                () = shutdown.cancelled(), if self.ends_at > Instant::now() + self.api.parts.stream_stop => {
                    self.ends_at = Instant::now() + self.api.parts.stream_stop.mul_f64(spread());
                }
            }
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.api.parts.metrics.streams.with_label_values(&[self.kind]).dec();
    }
}

/// Returns a number from 0 to 1 that differs from stream to stream.
fn spread() -> f64 {
    f64::from(Uuid::new_v4().as_fields().0) / f64::from(u32::MAX)
}

/// The JSON text of the event `clock`, and the data of a `reset`.
pub(in crate::api) fn clock() -> String {
    json!({ "at": Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true) }).to_string()
}

/// The lines of Server-Sent Events.
struct Sse {
    watch: Watch,
    begun: bool,
}

impl Sse {
    fn new(watch: Watch) -> Self {
        Sse { watch, begun: false }
    }

    async fn next(mut self) -> Option<(Result<Bytes, Infallible>, Sse)> {
        if !std::mem::replace(&mut self.begun, true) {
            return Some((Ok(format!("retry: {RETRY_MS}\n\n").into()), self));
        }
        // JSON text has no line breaks of its own.
        let lines = match self.watch.next().await {
            Next::Event(event, position) => format!("event: event\nid: {position}\ndata: {}\n\n", event.json),
            Next::Clock(position) => format!("event: clock\nid: {position}\ndata: {}\n\n", clock()),
            Next::Reset(reason, position) => {
                format!("event: reset\nid: {position}\ndata: {}\n\n", json!({ "reason": reason }))
            }
            Next::Ping => ": ping\n\n".to_owned(),
            Next::End => return None,
        };
        Some((Ok(lines.into()), self))
    }
}

impl From<TooMany> for Problem {
    fn from(error: TooMany) -> Self {
        Problem::new(ProblemType::TooManyRequests, error.to_string()).retry_after(FULL_RETRY)
    }
}
