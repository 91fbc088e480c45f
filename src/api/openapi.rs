//! The parts of the OpenAPI document that do not belong to one endpoint, and the endpoint that serves the document.

use std::sync::Arc;

use axum::Extension;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use utoipa::openapi::OpenApi as Document;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::event::EventTypeName;
use super::problem::ProblemBody;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "cns-events",
        description = "Events of the workflows that process bills of materials. Every response is about one tenant: the tenant that the \
                       token names. The database's row-level security enforces it. A token of support staff reads summaries of all \
                       tenants, and everything of the tenant that the parameter `tenant` names.",
    ),
    components(schemas(ProblemBody<'static>, EventTypeName)),
    modifiers(&BearerToken),
)]
struct Base;

/// Returns the document without endpoints.
pub(super) fn base() -> Document {
    Base::openapi()
}

/// The document as JSON.
#[derive(Clone)]
pub(super) struct DocumentText(Arc<str>);

impl DocumentText {
    pub(super) fn of(document: &Document) -> Self {
        // The document is data of known types, whose serialization does not fail.
        DocumentText(document.to_json().unwrap_or_default().into())
    }
}

/// This document
#[utoipa::path(
    get, path = "/openapi.json", operation_id = "document", tag = "document",
    responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json", body = Object)),
)]
pub(super) async fn serve(Extension(text): Extension<DocumentText>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], text.0.to_string()).into_response()
}

/// The security scheme of the endpoints that need a token.
struct BearerToken;

impl Modify for BearerToken {
    fn modify(&self, document: &mut Document) {
        let mut token = Http::new(HttpAuthScheme::Bearer);
        token.bearer_format = Some("JWT".to_owned());
        token.description = Some(
            "Signed with HS256, RS256 or ES256. `exp` and `aud` are required. `tenant_id` or `app_metadata.tenant_id` is the \
             UUID of the tenant; support staff has `app_metadata.cns_role` = `support` instead."
                .to_owned(),
        );
        if let Some(components) = &mut document.components {
            components.add_security_scheme("token", SecurityScheme::Http(token));
        }
    }
}
