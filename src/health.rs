//! Metrics and health over HTTP: `/metrics`, `/livez`, `/readyz` (section 8 of the contract).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus::{IntGaugeVec, Registry};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::http::{self, ConnectionLimits};
use crate::metrics::{self, Dependency};

/// Reason before a server was needed for the first time.
const NOT_YET: &str = "not reached yet";

/// State of the servers that this process depends on.
#[derive(Debug)]
pub struct Health {
    up: IntGaugeVec,
    /// Reason why a server is away; absent when it is reached.
    away: Mutex<BTreeMap<&'static str, String>>,
}

impl Health {
    /// Starts with none of these servers reached, in the gauge too.
    #[must_use]
    pub fn new(up: IntGaugeVec, peers: &[Dependency]) -> Self {
        let away = peers.iter().map(|peer| (peer.name(), NOT_YET.to_owned())).collect();
        Health { up, away: Mutex::new(away) }
    }

    /// Records an answer of the server. Returns whether it was away until now.
    pub fn reached(&self, peer: Dependency) -> bool {
        self.up.with_label_values(&[peer.name()]).set(1);
        self.lock().remove(peer.name()).is_some()
    }

    /// Records a failure of the server. Returns whether that is news: it was reached until now, or is needed for the first time.
    pub fn lost(&self, peer: Dependency, reason: &str) -> bool {
        self.up.with_label_values(&[peer.name()]).set(0);
        self.lock().insert(peer.name(), reason.to_owned()).is_none_or(|before| before == NOT_YET)
    }

    /// Returns whether the server was away when it was last needed.
    #[must_use]
    pub fn is_away(&self, peer: Dependency) -> bool {
        self.lock().contains_key(peer.name())
    }

    /// Returns the reasons why this process is not ready; empty when it is.
    #[must_use]
    pub fn reasons(&self) -> BTreeMap<&'static str, String> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, String>> {
        // A panic while the lock is held leaves the map of strings valid.
        self.away.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves `/metrics`, `/livez` and `/readyz` until `shutdown`.
pub async fn serve(
    listener: TcpListener,
    registry: Registry,
    health: Arc<Health>,
    shutdown: CancellationToken,
) {
    let router = Router::new()
        .route(
            "/metrics",
            get(async |State(registry): State<Registry>| {
                ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], metrics::render(&registry))
            }),
        )
        .with_state(registry)
        .route("/livez", get(livez))
        .route("/readyz", get(readyz).with_state(health));
    http::serve(listener, router, ConnectionLimits::default(), None, shutdown).await;
}

/// Answer of `/livez`.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Liveness {
    /// The process can make progress.
    alive: bool,
}

/// Answer of `/readyz`.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Readiness {
    /// Every server was reached when it was last needed.
    ready: bool,
    /// Servers that are not reached, each with the reason.
    reasons: BTreeMap<&'static str, String>,
}

/// Report that the process can make progress; depends on no server
#[utoipa::path(get, path = "/livez", tag = "health", responses((status = 200, description = "The process can make progress", body = Liveness)))]
pub(crate) async fn livez() -> axum::Json<Liveness> {
    axum::Json(Liveness { alive: true })
}

/// Reports whether every server is reached, with the servers' own error texts for the operator.
async fn readyz(State(health): State<Arc<Health>>) -> Response {
    readiness(health.reasons())
}

/// Report whether every server is reached
#[utoipa::path(get, path = "/readyz", operation_id = "readyz", tag = "health", responses(
    (status = 200, description = "Every server is reached", body = Readiness),
    (status = 503, description = "A server is not reached, with the reason", body = Readiness),
))]
pub(crate) async fn readyz_for_all(State(health): State<Arc<Health>>) -> Response {
    // The servers' own error texts name logins and addresses.
    let reasons = health.reasons().into_keys().map(|peer| (peer, "not reached; the log says why".to_owned()));
    readiness(reasons.collect())
}

fn readiness(reasons: BTreeMap<&'static str, String>) -> Response {
    let ready = reasons.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, axum::Json(Readiness { ready, reasons })).into_response()
}
