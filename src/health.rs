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

/// The reason before a peer was asked for the first time.
const NOT_YET: &str = "not reached yet";

/// What is known of the peers: reached, or why not.
#[derive(Debug)]
pub struct Health {
    up: IntGaugeVec,
    /// The reason why a peer is away; absent when it is reached.
    away: Mutex<BTreeMap<&'static str, String>>,
}

impl Health {
    /// None of these peers has been reached yet; the gauge says so for each.
    #[must_use]
    pub fn new(up: IntGaugeVec, peers: &[Dependency]) -> Self {
        let away = peers.iter().map(|peer| (peer.name(), NOT_YET.to_owned())).collect();
        Health { up, away: Mutex::new(away) }
    }

    /// The peer answered. Returns whether it was away until now.
    pub fn reached(&self, peer: Dependency) -> bool {
        self.up.with_label_values(&[peer.name()]).set(1);
        self.lock().remove(peer.name()).is_some()
    }

    /// The peer did not answer. Returns whether that is news: it was there until now, or never asked.
    pub fn lost(&self, peer: Dependency, reason: &str) -> bool {
        self.up.with_label_values(&[peer.name()]).set(0);
        self.lock().insert(peer.name(), reason.to_owned()).is_none_or(|before| before == NOT_YET)
    }

    /// Whether the peer was away when it was last needed.
    #[must_use]
    pub fn is_away(&self, peer: Dependency) -> bool {
        self.lock().contains_key(peer.name())
    }

    /// Why this process is not ready; empty when it is.
    #[must_use]
    pub fn reasons(&self) -> BTreeMap<&'static str, String> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, String>> {
        // A map of strings is whole whatever panicked beside it.
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

/// What `/livez` says.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Liveness {
    /// The process can make progress.
    alive: bool,
}

/// What `/readyz` says.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct Readiness {
    /// Every peer was reached when it was last needed.
    ready: bool,
    /// Who is not reached, and why.
    reasons: BTreeMap<&'static str, String>,
}

/// Whether the process can make progress; depends on no server
#[utoipa::path(get, path = "/livez", tag = "health", responses((status = 200, description = "It can", body = Liveness)))]
pub(crate) async fn livez() -> axum::Json<Liveness> {
    axum::Json(Liveness { alive: true })
}

/// Whether every peer is reached, with the servers' own words for who runs this.
async fn readyz(State(health): State<Arc<Health>>) -> Response {
    readiness(health.reasons())
}

/// Whether every peer is reached
#[utoipa::path(get, path = "/readyz", operation_id = "readyz", tag = "health", responses(
    (status = 200, description = "They are", body = Readiness),
    (status = 503, description = "Somebody is not, and why", body = Readiness),
))]
pub(crate) async fn readyz_for_all(State(health): State<Arc<Health>>) -> Response {
    // The servers' own words name logins and addresses.
    let reasons = health.reasons().into_keys().map(|peer| (peer, "not reached; the log says why".to_owned()));
    readiness(reasons.collect())
}

fn readiness(reasons: BTreeMap<&'static str, String>) -> Response {
    let ready = reasons.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, axum::Json(Readiness { ready, reasons })).into_response()
}
