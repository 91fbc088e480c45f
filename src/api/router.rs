//! The router: every endpoint with the layers around it, and the OpenAPI document of the same endpoints.

use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::{Extension, Router};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::{CompressionLayer, CompressionLevel};
use tower_http::cors::{AllowOrigin, CorsLayer};
use utoipa::openapi::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::openapi::{self, DocumentText};
use super::problem::{self, Problem, ProblemType};
use super::service::{Api, AppState};
use super::token_error::TokenError;
use super::{auth, request};
use crate::config;
use crate::health::{self, Health};

/// Time for which a browser may cache a CORS answer.
const CORS_MAX_AGE: Duration = Duration::from_secs(3600);

/// Returns the router of the API.
pub fn router(api: &Api, config: &config::Api, health: Arc<Health>) -> Router {
    let events = super::routes::router().route_layer(from_fn_with_state(api.clone(), auth::authenticate));
    let (router, document) = with_public_endpoints(events).split_for_parts();
    let routes: Vec<String> =
        document.paths.paths.keys().cloned().chain([request::OTHER_ROUTE.to_owned()]).collect();
    api.parts.metrics.start_at_zero(&routes, &TokenError::ALL.map(TokenError::name));
    router
        .with_state(AppState { api: api.clone(), health })
        .layer(Extension(DocumentText::of(&document)))
        .fallback(async || Problem::new(ProblemType::NotFound, "no such endpoint; see /openapi.json"))
        .method_not_allowed_fallback(async || {
            Problem::new(ProblemType::MethodNotAllowed, "this API is read-only: use GET")
        })
        .layer(CatchPanicLayer::custom(problem::of_panic))
        .layer(from_fn_with_state(api.clone(), request::observe))
        .layer(CompressionLayer::new().gzip(true).quality(CompressionLevel::Fastest))
        .layer(cors(config))
        .layer(from_fn(request::protect))
}

/// Returns the OpenAPI document.
#[must_use]
pub fn document() -> OpenApi {
    with_public_endpoints(super::routes::router()).into_openapi()
}

/// Adds the endpoints that need no token.
fn with_public_endpoints(events: OpenApiRouter<AppState>) -> OpenApiRouter<AppState> {
    OpenApiRouter::with_openapi(openapi::base())
        .merge(events)
        .merge(super::routes::web_socket())
        .routes(routes!(openapi::serve))
        .routes(routes!(health::livez))
        .routes(routes!(health::readyz_for_all))
}

fn cors(config: &config::Api) -> CorsLayer {
    let origins: Vec<&str> = config.origins().collect();
    let allowed = if origins.contains(&"*") {
        AllowOrigin::any()
    } else {
        AllowOrigin::list(origins.into_iter().filter_map(|origin| HeaderValue::from_str(origin).ok()))
    };
    CorsLayer::new()
        .allow_origin(allowed)
        .allow_methods([Method::GET])
        .allow_headers([header::AUTHORIZATION, request::REQUEST_ID, HeaderName::from_static("last-event-id")])
        .expose_headers([
            request::REQUEST_ID,
            header::RETRY_AFTER,
            HeaderName::from_static("ratelimit-limit"),
        ])
        .max_age(CORS_MAX_AGE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_lists_every_endpoint() {
        let document = document();
        let paths: Vec<&String> = document.paths.paths.keys().collect();
        assert_eq!(
            paths,
            [
                "/livez",
                "/openapi.json",
                "/readyz",
                "/v1/boms/{bom_id}",
                "/v1/boms/{bom_id}/events",
                "/v1/errors",
                "/v1/risks",
                "/v1/stages",
                "/v1/stream",
                "/v1/stream/ws",
                "/v1/summary",
                "/v1/workflows",
                "/v1/workflows/{workflow_id}",
                "/v1/workflows/{workflow_id}/events",
            ]
        );
        let schemas = document.components.map(|components| components.schemas).unwrap_or_default();
        for name in ["Event", "EventPage", "EventType", "Problem", "WorkflowList", "WorkflowRun"] {
            assert!(schemas.contains_key(name), "{name}");
        }
    }
}
