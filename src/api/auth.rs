//! Who may ask, and how often.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use governor::clock::{Clock, DefaultClock};

use super::problem::{Problem, ProblemType};
use super::token::TokenError;
use super::{Api, Caller};

/// How many requests a second a tenant may make.
const LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");

/// Lets a request with a valid token through, as often as its tenant may.
pub(super) async fn admit(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let caller = match bearer(request.headers()).and_then(|token| api.0.tokens.verify(token)) {
        Ok(caller) => caller,
        Err(refusal) => {
            api.0.metrics.tokens_refused.with_label_values(&[refusal.name()]).inc();
            tracing::debug!(reason = refusal.name(), "a token was refused");
            return Problem::from(refusal).into_response();
        }
    };
    if let Err(response) = within_rate(&api, &caller) {
        return response;
    }
    request.extensions_mut().insert(caller);
    next.run(request).await
}

#[allow(clippy::result_large_err)] // either way it is the answer
fn within_rate(api: &Api, caller: &Caller) -> Result<(), Response> {
    let Some(limiter) = &api.0.limiter else { return Ok(()) };
    let Err(until) = limiter.check_key(&caller.tenant) else { return Ok(()) };
    let pause = until.wait_time_from(DefaultClock::default().now());
    let most = until.quota().burst_size();
    let detail = format!("this tenant may make {most} requests a second; wait {} ms", pause.as_millis());
    let mut response = Problem::new(ProblemType::TooManyRequests, detail).retry_after(pause).into_response();
    response.headers_mut().insert(LIMIT, most.get().into());
    Err(response)
}

/// The token of the one `Authorization: Bearer …` header.
fn bearer(headers: &HeaderMap) -> Result<&str, TokenError> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next().ok_or(TokenError::Missing)?.to_str().map_err(|_| TokenError::Malformed)?;
    if values.next().is_some() {
        return Err(TokenError::Malformed);
    }
    match value.trim().split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(token.trim()),
        _ => Err(TokenError::Missing),
    }
}
