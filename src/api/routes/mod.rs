//! The endpoints that need a token: one file for each resource.

mod boms;
mod errors;
mod page;
mod parameters;
mod risks;
mod runs;
mod stages;
mod stream;
mod stream_ws;
mod summary;
mod workflows;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::service::AppState;

/// Returns the endpoints, each with its part of the OpenAPI document.
pub(super) fn router() -> OpenApiRouter<AppState> {
    let router = OpenApiRouter::new()
        .routes(routes!(boms::events))
        .routes(routes!(workflows::events))
        .routes(routes!(errors::recent))
        .routes(routes!(stream::events))
        .routes(routes!(runs::list))
        .routes(routes!(runs::one))
        .routes(routes!(runs::bom))
        .routes(routes!(summary::summary))
        .routes(routes!(stages::stages))
        .routes(routes!(risks::recent));
    with_tenant(router)
}

/// Returns the endpoint that finds its token by itself, because a browser cannot send headers to it.
pub(super) fn web_socket() -> OpenApiRouter<AppState> {
    with_tenant(OpenApiRouter::new().routes(routes!(stream_ws::events)))
}

/// Adds the parameter `tenant` to each endpoint of the document.
fn with_tenant(mut router: OpenApiRouter<AppState>) -> OpenApiRouter<AppState> {
    for item in router.get_openapi_mut().paths.paths.values_mut() {
        let operation = item.get.as_mut();
        operation
            .into_iter()
            .for_each(|of| of.parameters.get_or_insert_default().push(parameters::tenant().into()));
    }
    router
}
