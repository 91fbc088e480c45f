//! What went wrong, as `application/problem+json` (RFC 9457).

use std::any::Any;
use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::token::TokenError;
use crate::store::read::QueryError;
use crate::store::{Failure, FailureClass};

/// Seconds after which to ask again where the database did not answer.
const DATABASE_PAUSE: Duration = Duration::from_secs(2);

/// The type of a problem: what a program may go by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProblemType {
    /// A parameter that cannot be.
    InvalidParameter,
    /// No token, or one that is not accepted.
    Unauthorized,
    /// A token without a tenant.
    NoTenant,
    /// There is no such path.
    NotFound,
    /// Something else than reading.
    MethodNotAllowed,
    /// A body, where none is read.
    BodyTooLarge,
    /// The tenant makes too many requests.
    TooManyRequests,
    /// A bug.
    Internal,
    /// The database does not answer, or not in time.
    Unavailable,
}

impl ProblemType {
    /// All of them.
    pub const ALL: [ProblemType; 9] = [
        ProblemType::InvalidParameter,
        ProblemType::Unauthorized,
        ProblemType::NoTenant,
        ProblemType::NotFound,
        ProblemType::MethodNotAllowed,
        ProblemType::BodyTooLarge,
        ProblemType::TooManyRequests,
        ProblemType::Internal,
        ProblemType::Unavailable,
    ];

    /// The status, the last part of the type's URN, and the title.
    #[must_use]
    pub const fn parts(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            ProblemType::InvalidParameter => {
                (StatusCode::BAD_REQUEST, "invalid-parameter", "A parameter cannot be used")
            }
            ProblemType::Unauthorized => {
                (StatusCode::UNAUTHORIZED, "unauthorized", "A valid token is needed")
            }
            ProblemType::NoTenant => (StatusCode::FORBIDDEN, "no-tenant", "The token names no tenant"),
            ProblemType::NotFound => (StatusCode::NOT_FOUND, "not-found", "There is no such resource"),
            ProblemType::MethodNotAllowed => {
                (StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "The method is not allowed")
            }
            ProblemType::BodyTooLarge => {
                (StatusCode::PAYLOAD_TOO_LARGE, "body-too-large", "No body is read here")
            }
            ProblemType::TooManyRequests => {
                (StatusCode::TOO_MANY_REQUESTS, "too-many-requests", "The tenant makes too many requests")
            }
            ProblemType::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal", "Something broke here"),
            ProblemType::Unavailable => {
                (StatusCode::SERVICE_UNAVAILABLE, "unavailable", "The events cannot be read now")
            }
        }
    }
}

/// A problem. As a response it is a status and itself; its body is written where the request's id is known.
#[derive(Clone, Debug)]
pub struct Problem {
    kind: ProblemType,
    detail: String,
    retry_after: Option<Duration>,
    /// The error of the `WWW-Authenticate` header (RFC 6750).
    challenge: Option<&'static str>,
}

/// The body of a problem (RFC 9457).
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Problem)]
pub(super) struct Body<'a> {
    /// What a program may go by.
    #[serde(rename = "type")]
    #[schema(example = "urn:cns-events:problem:invalid-parameter")]
    of: String,
    /// The same for people.
    title: &'a str,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What was wrong this time, and what would do.
    detail: &'a str,
    /// The request's id, which the logs have too.
    request_id: &'a str,
}

impl Problem {
    /// A problem, and what was wrong this time.
    pub fn new(kind: ProblemType, detail: impl Into<String>) -> Self {
        Problem { kind, detail: detail.into(), retry_after: None, challenge: None }
    }

    pub(super) fn retry_after(self, pause: Duration) -> Self {
        Problem { retry_after: Some(pause), ..self }
    }

    /// The body, for a request with that id.
    pub(super) fn body<'a>(&'a self, request_id: &'a str) -> Body<'a> {
        let (status, name, title) = self.kind.parts();
        let of = format!("urn:cns-events:problem:{name}");
        Body { of, title, status: status.as_u16(), detail: &self.detail, request_id }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.kind.parts().0.into_response();
        let headers = response.headers_mut();
        if let Some(pause) = self.retry_after {
            // Whole seconds, at least one: a client that waits less is refused again.
            headers
                .insert(header::RETRY_AFTER, HeaderValue::from(pause.as_secs_f64().ceil().max(1.0) as u64));
        }
        if let Some(error) = self.challenge {
            let challenge = format!("Bearer realm=\"cns-events\"{error}");
            headers.extend(challenge.try_into().ok().map(|value| (header::WWW_AUTHENTICATE, value)));
        }
        response.extensions_mut().insert(self);
        response
    }
}

impl From<TokenError> for Problem {
    fn from(refusal: TokenError) -> Self {
        let (kind, challenge) = match refusal {
            TokenError::NoTenant => (ProblemType::NoTenant, None),
            // Who brought nothing is told what to bring, and no error (RFC 6750, section 3.1).
            TokenError::Missing => (ProblemType::Unauthorized, Some("")),
            _ => (ProblemType::Unauthorized, Some(", error=\"invalid_token\"")),
        };
        Problem { challenge, ..Problem::new(kind, refusal.to_string()) }
    }
}

impl From<QueryError> for Problem {
    fn from(error: QueryError) -> Self {
        Problem::new(ProblemType::InvalidParameter, error.to_string())
    }
}

impl From<Failure> for Problem {
    fn from(failure: Failure) -> Self {
        // The server's own words are for the log: they may tell of others than the caller.
        match failure.class {
            FailureClass::Held(_) => {
                Problem::new(ProblemType::Unavailable, "the database does not answer as it should; try again")
                    .retry_after(DATABASE_PAUSE)
            }
            FailureClass::Data | FailureClass::Unknown => {
                Problem::new(ProblemType::Internal, "the database refused the question")
            }
        }
    }
}

/// What becomes of a request whose handler panicked.
#[allow(clippy::needless_pass_by_value)] // as the layer calls it
pub(super) fn of_panic(panic: Box<dyn Any + Send + 'static>) -> Response {
    let said =
        panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    tracing::error!(panic = said.unwrap_or("?"), "a request's handler panicked");
    Problem::new(ProblemType::Internal, "this is a bug; its log line has the request's id").into_response()
}
