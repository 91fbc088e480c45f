//! The layers around every request: id, deadline, metrics, security headers, and the body of a problem.

use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tracing::Instrument;
use uuid::Uuid;

use super::problem::{Problem, ProblemType};
use super::service::Api;

/// The header that carries a request's id.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Value of the `route` label for requests that match no endpoint.
pub(super) const OTHER_ROUTE: &str = "other";

/// Maximum length of a request id that the caller chose, in characters.
const MAX_ID_CHARS: usize = 128;

/// Assigns an id and a deadline to a request, counts it, and writes the body of a problem.
pub(super) async fn observe(State(api): State<Api>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let id = request_id(request.headers());
    let route = request.extensions().get::<MatchedPath>().map_or(OTHER_ROUTE, MatchedPath::as_str).to_owned();
    let span = tracing::info_span!("request", request_id = %id, route);
    let answered = async {
        // Refused before the client has sent much of the body.
        if has_body(request.headers()) {
            return Problem::new(ProblemType::BodyTooLarge, "this API accepts no request body")
                .into_response();
        }
        match tokio::time::timeout(api.parts.request_timeout, next.run(request)).await {
            Ok(response) => response,
            Err(_) => {
                let milliseconds = api.parts.request_timeout.as_millis();
                tracing::warn!(milliseconds, "request timed out after {milliseconds} ms");
                let late = format!("no response within {milliseconds} ms; request fewer events, or retry");
                Problem::new(ProblemType::Unavailable, late)
                    .retry_after(api.parts.request_timeout / 10)
                    .into_response()
            }
        }
    };
    let mut response = answered.instrument(span.clone()).await;
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        response = with_body(response, &problem, &id);
    }
    if let Ok(id) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, id);
    }
    let (status, took) = (response.status(), started.elapsed());
    span.in_scope(|| {
        tracing::debug!(status = status.as_u16(), milliseconds = took.as_millis(), "request completed")
    });
    api.parts.metrics.requests.with_label_values(&[route.as_str(), status.as_str()]).inc();
    api.parts.metrics.request_seconds.with_label_values(&[route.as_str()]).observe(took.as_secs_f64());
    response
}

/// Forbids caching and content sniffing, and ignores an `Accept-Encoding` that cannot be satisfied.
pub(super) async fn protect(mut request: Request, next: Next) -> Response {
    // A client that refuses every possible encoding receives the response unencoded (RFC 9110, section 12.5.3).
    let refuses = |encodings: &HeaderValue| {
        let encodings = encodings.to_str().unwrap_or_default().replace(' ', "");
        encodings.contains("identity;q=0") || encodings.contains("*;q=0")
    };
    if request.headers().get(header::ACCEPT_ENCODING).is_some_and(refuses) {
        request.headers_mut().remove(header::ACCEPT_ENCODING);
    }
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

fn with_body(response: Response, problem: &Problem, id: &str) -> Response {
    let (mut parts, _) = response.into_parts();
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    // The serialization of texts and a number does not fail.
    let body = serde_json::to_string(&problem.body(id)).unwrap_or_default();
    Response::from_parts(parts, body.into())
}

/// Returns the caller's request id if it is safe to log, else a new one.
fn request_id(headers: &HeaderMap) -> String {
    let given = headers.get(REQUEST_ID).and_then(|id| id.to_str().ok());
    given
        .filter(|id| (1..=MAX_ID_CHARS).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic()))
        .map_or_else(|| Uuid::now_v7().to_string(), str::to_owned)
}

fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(header::TRANSFER_ENCODING)
        || headers.get(header::CONTENT_LENGTH).is_some_and(|length| length.as_bytes() != b"0")
}
