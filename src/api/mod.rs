//! The read API over HTTP: section 9 of the contract.
//!
//! A request goes one way: connection ([`serve`]) → request id, deadline and metrics (`observe`) → token and rate limit
//! (`guard`) → question (`routes`) → the database, which decides what is seen ([`crate::store::read`]). Nothing is kept
//! between requests but the rate limiter's counts, so that any number of replicas can stand behind a balancer.

mod auth;
mod keys;
mod log_throttle;
mod openapi;
mod problem;
mod request;
mod routes;
mod server;
mod signature;
mod tenant_limits;
mod token;

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::{HeaderName, HeaderValue, Method, header};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::routing::get;
use governor::{DefaultKeyedRateLimiter, Quota};
use log_throttle::Throttle;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::{CompressionLayer, CompressionLevel};
use tower_http::cors::{AllowOrigin, CorsLayer};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use uuid::Uuid;

use crate::config;
use crate::health::{self, Health};
use crate::metrics::ApiMetrics;
use crate::store::read::Reader;
use tenant_limits::Shares;

pub use keys::{KeyError, Keys};
pub use openapi::document;
pub use problem::{Problem, ProblemType};
pub use routes::EventPage;
pub use server::{Bounds, serve};
pub use token::{Caller, TokenError, Tokens};

/// The values of the `route` label: the paths of the API, and everything else.
pub const ROUTES: [&str; 7] = [
    "/v1/boms/{bom_id}/events",
    "/v1/workflows/{workflow_id}/events",
    "/v1/errors",
    "/openapi.json",
    "/livez",
    "/readyz",
    OTHER_ROUTE,
];
const OTHER_ROUTE: &str = "other";

/// How long a browser may remember what CORS allows.
const CORS_MAX_AGE: Duration = Duration::from_secs(3600);

/// What every request needs. Cheap to clone.
#[derive(Clone)]
pub struct Api(Arc<Parts>);

struct Parts {
    reader: Reader,
    tokens: Arc<Tokens>,
    limiter: Option<DefaultKeyedRateLimiter<Uuid>>,
    shares: Shares,
    metrics: Arc<ApiMetrics>,
    timeout: Duration,
    unanswered: Throttle,
}

impl Api {
    /// An API that reads by `reader` and knows its callers by `tokens`.
    #[must_use]
    pub fn new(config: &config::Api, reader: Reader, tokens: Arc<Tokens>, metrics: Arc<ApiMetrics>) -> Self {
        let limiter = NonZeroU32::new(config.rate_limit)
            .map(|rate| DefaultKeyedRateLimiter::keyed(Quota::per_second(rate)));
        let timeout = Duration::from_millis(config.request_timeout_ms);
        let shares = Shares::of_pool(reader.connections());
        let unanswered = Throttle::default();
        Api(Arc::new(Parts { reader, tokens, limiter, shares, metrics, timeout, unanswered }))
    }

    /// Forgets the tenants that have made no request of late: to be called now and then.
    pub fn tidy(&self) {
        if let Some(limiter) = &self.0.limiter {
            limiter.retain_recent();
        }
        self.0.shares.tidy();
    }

    /// Everything that can be asked.
    pub fn router(&self, config: &config::Api, health: Arc<Health>) -> Router {
        self.0.metrics.start_at_zero(&ROUTES.map(str::to_owned), &TokenError::ALL.map(TokenError::name));
        let guarded = OpenApiRouter::new()
            .routes(routes!(routes::events_by_bom))
            .routes(routes!(routes::events_by_workflow))
            .routes(routes!(routes::recent_errors))
            .route_layer(from_fn_with_state(self.clone(), auth::admit));
        let (router, _) = guarded.split_for_parts();
        router
            .with_state(self.clone())
            .route("/openapi.json", get(openapi::serve))
            .route("/livez", get(health::livez))
            .route("/readyz", get(health::readyz_for_all).with_state(health))
            .fallback(async || {
                Problem::new(
                    ProblemType::NotFound,
                    "there is nothing here; /openapi.json tells what there is",
                )
            })
            .method_not_allowed_fallback(async || {
                Problem::new(ProblemType::MethodNotAllowed, "it can only be read: use GET")
            })
            .layer(CatchPanicLayer::custom(problem::of_panic))
            .layer(from_fn_with_state(self.clone(), request::observe))
            .layer(CompressionLayer::new().gzip(true).quality(CompressionLevel::Fastest))
            .layer(cors(config))
            .layer(from_fn(request::protect))
    }
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
        .allow_headers([header::AUTHORIZATION, request::REQUEST_ID])
        .expose_headers([
            request::REQUEST_ID,
            header::RETRY_AFTER,
            HeaderName::from_static("ratelimit-limit"),
        ])
        .max_age(CORS_MAX_AGE)
}
