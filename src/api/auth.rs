//! Authentication by bearer token, and the rate limit of each tenant.

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use governor::clock::{Clock, DefaultClock};

use super::caller::Caller;
use super::problem::{Problem, ProblemType};
use super::service::Api;
use super::token_error::TokenError;

/// Header with the tenant's limit, in requests per second.
const RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit-limit");

/// Passes a request with a valid token on, within the rate limit of its tenant.
pub(super) async fn authenticate(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let caller = match bearer(request.headers()) {
        Ok(token) => verified(&api, Some(token)),
        Err(error) => Err(refused(&api, error)),
    };
    let caller = match caller {
        Ok(caller) => caller,
        Err(error) => return Problem::from(error).into_response(),
    };
    if let Err(response) = check_rate(&api, &caller) {
        return response;
    }
    let caller = match caller.reading_as_of(request.uri_mut()) {
        Ok(caller) => caller,
        Err(problem) => return problem.into_response(),
    };
    request.extensions_mut().insert(caller);
    next.run(request).await
}

/// Returns the caller that a token names.
pub(super) fn verified(api: &Api, token: Option<&str>) -> Result<Caller, TokenError> {
    let verified = token.ok_or(TokenError::Missing).and_then(|token| api.parts.tokens.verify(token));
    verified.map_err(|error| refused(api, error))
}

/// Counts a token that is refused.
fn refused(api: &Api, error: TokenError) -> TokenError {
    api.parts.metrics.tokens_refused.with_label_values(&[error.name()]).inc();
    tracing::debug!(reason = error.name(), %error, "token refused: {error}");
    error
}

#[allow(clippy::result_large_err)] // the response is returned as it is
pub(super) fn check_rate(api: &Api, caller: &Caller) -> Result<(), Response> {
    let Some(limiter) = &api.parts.rate_limiter else { return Ok(()) };
    let Err(until) = limiter.check_key(&caller.limited_as()) else { return Ok(()) };
    let pause = until.wait_time_from(DefaultClock::default().now());
    let max = until.quota().burst_size();
    let detail =
        format!("the limit is {max} requests per second for each tenant; retry in {} ms", pause.as_millis());
    let mut response = Problem::new(ProblemType::TooManyRequests, detail).retry_after(pause).into_response();
    response.headers_mut().insert(RATE_LIMIT, max.get().into());
    Err(response)
}

/// Returns the token of the only `Authorization: Bearer …` header.
pub(super) fn bearer(headers: &HeaderMap) -> Result<&str, TokenError> {
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
