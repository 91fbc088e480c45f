//! Around every request: its id, its deadline, its count, and the body of a problem.

use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use tracing::Instrument;
use uuid::Uuid;

use super::problem::{Problem, ProblemType};
use super::{Api, OTHER_ROUTE};

/// The header that carries a request's id.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// A caller's own id for a request has this many characters at most.
const MAX_ID_CHARS: usize = 128;

/// Gives a request its id and its deadline, counts it, and writes the body of a problem.
pub(super) async fn observe(State(api): State<Api>, request: Request, next: Next) -> Response {
    let began = Instant::now();
    let id = request_id(request.headers());
    let route = request.extensions().get::<MatchedPath>().map_or(OTHER_ROUTE, MatchedPath::as_str).to_owned();
    let span = tracing::info_span!("request", request_id = %id, route);
    let answered = async {
        // Said before it has sent much.
        if has_body(request.headers()) {
            return Problem::new(ProblemType::BodyTooLarge, "no body is read here: send none")
                .into_response();
        }
        match tokio::time::timeout(api.0.timeout, next.run(request)).await {
            Ok(response) => response,
            Err(_) => {
                let milliseconds = api.0.timeout.as_millis();
                tracing::warn!(milliseconds, "a request took too long");
                let late = format!("no answer within {milliseconds} ms; ask for less, or try again");
                Problem::new(ProblemType::Unavailable, late).retry_after(api.0.timeout / 10).into_response()
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
    let (status, took) = (response.status(), began.elapsed());
    span.in_scope(|| tracing::debug!(status = status.as_u16(), milliseconds = took.as_millis(), "answered"));
    api.0.metrics.requests.with_label_values(&[route.as_str(), status.as_str()]).inc();
    api.0.metrics.request_seconds.with_label_values(&[route.as_str()]).observe(took.as_secs_f64());
    response
}

/// Tells browsers and caches to keep their hands off, and leaves no encoding that could not be.
pub(super) async fn protect(mut request: Request, next: Next) -> Response {
    // Who refuses an answer as it is, and cannot be given another, is given it as it is (RFC 9110, section 12.5.3).
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
    // A struct of texts and a number can always be written.
    let body = serde_json::to_string(&problem.body(id)).unwrap_or_default();
    Response::from_parts(parts, body.into())
}

/// The caller's own, if it is one that can stand in a log; else a new one.
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
