//! The endpoints that need a token: one file for each resource.

mod boms;
mod errors;
mod page;
mod parameters;
mod stream;
mod stream_ws;
mod workflows;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::service::AppState;

/// Returns the endpoints, each with its part of the OpenAPI document.
pub(super) fn router() -> OpenApiRouter<AppState> {
    OpenApiRouter::new()
        .routes(routes!(boms::events))
        .routes(routes!(workflows::events))
        .routes(routes!(errors::recent))
        .routes(routes!(stream::events))
}

/// Returns the endpoint that finds its token by itself, because a browser cannot send headers to it.
pub(super) fn web_socket() -> OpenApiRouter<AppState> {
    OpenApiRouter::new().routes(routes!(stream_ws::events))
}
