//! The API's own description, made from the code that answers.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use axum::http::header;
use axum::response::{IntoResponse, Response};
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::{
    self, ContentBuilder, Header, ObjectBuilder, Ref, RefOr, Response as Described, ResponseBuilder, Type,
};
use utoipa::{IntoResponses, Modify, OpenApi};

use super::problem::{Body, ProblemType};
use super::routes;
use crate::health;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "cns-events",
        description = "What happened to boards, as their workflows told it. Every answer holds one tenant's events alone: \
                       the one that the token names, as the database sees to it.",
    ),
    paths(
        routes::events_by_bom,
        routes::events_by_workflow,
        routes::recent_errors,
        health::livez,
        health::readyz_for_all,
        document_of_itself
    ),
    components(schemas(Body<'static>, routes::EventType)),
    modifiers(&Token),
)]
struct Document;

/// The OpenAPI document.
#[must_use]
pub fn document() -> openapi::OpenApi {
    Document::openapi()
}

/// This document
#[utoipa::path(get, path = "/openapi.json", tag = "document", responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json", body = Object)))]
#[allow(dead_code)] // for the document alone
fn document_of_itself() {}

pub(super) async fn serve() -> Response {
    static TEXT: LazyLock<String> = LazyLock::new(|| document().to_json().unwrap_or_default());
    ([(header::CONTENT_TYPE, "application/json")], TEXT.as_str()).into_response()
}

/// How a caller is known.
struct Token;

impl Modify for Token {
    fn modify(&self, document: &mut openapi::OpenApi) {
        let mut token = Http::new(HttpAuthScheme::Bearer);
        token.bearer_format = Some("JWT".to_owned());
        token.description = Some(
            "Signed with HS256, RS256 or ES256. `exp` and `aud` are needed; `tenant_id` or `app_metadata.tenant_id` is the \
             tenant's UUID."
                .to_owned(),
        );
        if let Some(components) = &mut document.components {
            components.add_security_scheme("token", SecurityScheme::Http(token));
        }
    }
}

/// Every answer that is not the one that was asked for.
pub(super) struct Refusals;

impl IntoResponses for Refusals {
    fn responses() -> BTreeMap<String, RefOr<Described>> {
        // The paths and the method are the document's.
        let kinds = ProblemType::ALL
            .into_iter()
            .filter(|kind| !matches!(kind, ProblemType::NotFound | ProblemType::MethodNotAllowed));
        kinds
            .map(|kind| {
                let (status, _, title) = kind.parts();
                let schema = Ref::from_schema_name("Problem");
                let mut described = ResponseBuilder::new()
                    .description(title)
                    .content("application/problem+json", ContentBuilder::new().schema(Some(schema)).build());
                if matches!(kind, ProblemType::TooManyRequests | ProblemType::Unavailable) {
                    let seconds = ObjectBuilder::new().schema_type(Type::Integer).build();
                    let mut header = Header::new(seconds);
                    header.description = Some("Seconds to wait.".to_owned());
                    described = described.header("Retry-After", header);
                }
                (status.as_u16().to_string(), RefOr::T(described.build()))
            })
            .collect()
    }
}
