//! Error responses as `application/problem+json` (RFC 9457).

use std::any::Any;
use std::collections::BTreeMap;
use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::IntoResponses;
use utoipa::openapi::{
    ContentBuilder, Header, ObjectBuilder, Ref, RefOr, Response as Described, ResponseBuilder, Type,
};

use super::token_error::TokenError;
use crate::named::named_enum;
use crate::store::read::{QueryError, SummaryError};
use crate::store::{FailureClass, StoreFailure};

/// Value of `Retry-After` for a failed read: reconnecting to the database usually takes less.
const RETRY_AFTER: Duration = Duration::from_secs(2);

named_enum! {
    /// The type of a problem, for programs. The name is the last part of the type's URN.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum ProblemType {
        /// A parameter has an invalid value.
        InvalidParameter = "invalid-parameter",
        /// The token is missing or not accepted.
        Unauthorized = "unauthorized",
        /// The token names no tenant.
        NoTenant = "no-tenant",
        /// The token does not allow this.
        Forbidden = "forbidden",
        /// The path does not exist.
        NotFound = "not-found",
        /// The method is not GET.
        MethodNotAllowed = "method-not-allowed",
        /// The request has a body.
        BodyTooLarge = "body-too-large",
        /// The tenant exceeded its rate limit.
        TooManyRequests = "too-many-requests",
        /// The request failed because of a bug.
        Internal = "internal",
        /// The summaries were never made.
        NoSummaries = "no-summaries",
        /// The database did not answer in time, or cannot be read.
        Unavailable = "unavailable",
    }
}

impl ProblemType {
    /// Returns the HTTP status and the title.
    #[must_use]
    pub const fn status_and_title(self) -> (StatusCode, &'static str) {
        match self {
            ProblemType::InvalidParameter => (StatusCode::BAD_REQUEST, "Invalid parameter"),
            ProblemType::Unauthorized => (StatusCode::UNAUTHORIZED, "A valid token is required"),
            ProblemType::NoTenant => (StatusCode::FORBIDDEN, "The token names no tenant"),
            ProblemType::Forbidden => (StatusCode::FORBIDDEN, "The token does not allow this"),
            ProblemType::NotFound => (StatusCode::NOT_FOUND, "No such resource"),
            ProblemType::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "Method not allowed"),
            ProblemType::BodyTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "Request body not accepted"),
            ProblemType::TooManyRequests => (StatusCode::TOO_MANY_REQUESTS, "Too many requests"),
            ProblemType::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "Internal error"),
            ProblemType::NoSummaries => (StatusCode::SERVICE_UNAVAILABLE, "There are no summaries yet"),
            ProblemType::Unavailable => {
                (StatusCode::SERVICE_UNAVAILABLE, "Events are temporarily unavailable")
            }
        }
    }
}

/// A problem. Its response has only the status; `request` adds the body, because it knows the request id.
#[derive(Clone, Debug)]
pub struct Problem {
    kind: ProblemType,
    detail: String,
    retry_after: Option<Duration>,
    /// Error in the `WWW-Authenticate` header (RFC 6750).
    challenge: Option<&'static str>,
}

/// The body of a problem (RFC 9457).
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Problem)]
pub(super) struct ProblemBody<'a> {
    /// URN of the problem type, for programs.
    #[serde(rename = "type")]
    #[schema(example = "urn:cns-events:problem:invalid-parameter")]
    urn: String,
    /// Problem type, as a text for people.
    title: &'a str,
    /// HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// Description of this occurrence.
    detail: &'a str,
    /// Id of the request, which is also in the server's log.
    request_id: &'a str,
}

impl Problem {
    /// Returns a problem with the description of this occurrence.
    pub fn new(kind: ProblemType, detail: impl Into<String>) -> Self {
        Problem { kind, detail: detail.into(), retry_after: None, challenge: None }
    }

    pub(super) fn retry_after(self, pause: Duration) -> Self {
        Problem { retry_after: Some(pause), ..self }
    }

    /// Returns the type.
    pub(super) fn kind(&self) -> ProblemType {
        self.kind
    }

    /// Returns the description of this occurrence.
    pub(super) fn detail(&self) -> &str {
        &self.detail
    }

    /// Returns the body for a request with this id.
    pub(super) fn body<'a>(&'a self, request_id: &'a str) -> ProblemBody<'a> {
        let ((status, title), name) = (self.kind.status_and_title(), self.kind.name());
        let urn = format!("urn:cns-events:problem:{name}");
        ProblemBody { urn, title, status: status.as_u16(), detail: &self.detail, request_id }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.kind.status_and_title().0.into_response();
        let headers = response.headers_mut();
        if let Some(pause) = self.retry_after {
            // Whole seconds, rounded up: a client that waits less is refused again.
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
    fn from(error: TokenError) -> Self {
        let (kind, challenge) = match error {
            TokenError::NoTenant => (ProblemType::NoTenant, None),
            // A request without a token is answered without an error code (RFC 6750, section 3.1).
            TokenError::Missing => (ProblemType::Unauthorized, Some("")),
            _ => (ProblemType::Unauthorized, Some(", error=\"invalid_token\"")),
        };
        Problem { challenge, ..Problem::new(kind, error.to_string()) }
    }
}

impl From<QueryError> for Problem {
    fn from(error: QueryError) -> Self {
        Problem::new(ProblemType::InvalidParameter, error.to_string())
    }
}

impl From<StoreFailure> for Problem {
    fn from(failure: StoreFailure) -> Self {
        // The database's message is only logged: it may contain data of other tenants.
        match failure.class {
            FailureClass::Held(_) => Problem::new(
                ProblemType::Unavailable,
                "the database cannot be read at the moment; retry later",
            )
            .retry_after(RETRY_AFTER),
            FailureClass::Data | FailureClass::Unknown => {
                Problem::new(ProblemType::Internal, "the database rejected the query")
            }
        }
    }
}

impl From<SummaryError> for Problem {
    fn from(error: SummaryError) -> Self {
        match error {
            SummaryError::NeverMade => Problem::new(ProblemType::NoSummaries, error.to_string()),
            SummaryError::Failed(failure) => failure.into(),
        }
    }
}

/// The problem responses of every endpoint that needs a token, for the OpenAPI document.
pub(super) struct ProblemResponses;

impl IntoResponses for ProblemResponses {
    fn responses() -> BTreeMap<String, RefOr<Described>> {
        // A client that follows the document uses its paths and its method.
        let kinds = ProblemType::ALL
            .into_iter()
            .filter(|kind| !matches!(kind, ProblemType::NotFound | ProblemType::MethodNotAllowed));
        kinds
            .map(|kind| {
                let (status, title) = kind.status_and_title();
                let schema = Ref::from_schema_name("Problem");
                let mut described = ResponseBuilder::new()
                    .description(title)
                    .content("application/problem+json", ContentBuilder::new().schema(Some(schema)).build());
                if matches!(kind, ProblemType::TooManyRequests | ProblemType::Unavailable) {
                    let seconds = ObjectBuilder::new().schema_type(Type::Integer).build();
                    let mut header = Header::new(seconds);
                    header.description = Some("Seconds until the next attempt.".to_owned());
                    described = described.header("Retry-After", header);
                }
                (status.as_u16().to_string(), RefOr::T(described.build()))
            })
            .collect()
    }
}

/// Returns the response of a request whose handler panicked.
#[allow(clippy::needless_pass_by_value)] // as the layer calls it
pub(super) fn of_panic(panic: Box<dyn Any + Send + 'static>) -> Response {
    let message =
        panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    let message = message.unwrap_or("no message");
    tracing::error!(error = message, "request handler panicked: {message}");
    Problem::new(ProblemType::Internal, "a bug in the server; its log has the request id").into_response()
}
