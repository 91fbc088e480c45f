//! Metrics and health over HTTP: `/metrics`, `/livez`, `/readyz` (section 8 of the contract).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::metrics::{Metrics, Peer};

/// The reason before a peer was asked for the first time.
const NOT_YET: &str = "not reached yet";

/// What is known of the peers: reached, or why not.
#[derive(Debug)]
pub struct Health {
    metrics: Arc<Metrics>,
    /// The reason why a peer is away; absent when it is reached.
    away: Mutex<BTreeMap<&'static str, String>>,
}

impl Health {
    /// Nothing has been reached yet.
    #[must_use]
    pub fn new(metrics: Arc<Metrics>) -> Self {
        let away = Peer::ALL.map(|peer| (peer.name(), NOT_YET.to_owned())).into();
        Health { metrics, away: Mutex::new(away) }
    }

    /// The peer answered. Returns whether it was away until now.
    pub fn reached(&self, peer: Peer) -> bool {
        self.metrics.up.with_label_values(&[peer.name()]).set(1);
        self.lock().remove(peer.name()).is_some()
    }

    /// The peer did not answer. Returns whether that is news: it was there until now, or never asked.
    pub fn lost(&self, peer: Peer, reason: &str) -> bool {
        self.metrics.up.with_label_values(&[peer.name()]).set(0);
        self.lock().insert(peer.name(), reason.to_owned()).is_none_or(|before| before == NOT_YET)
    }

    /// Whether the peer was away when it was last needed.
    #[must_use]
    pub fn is_away(&self, peer: Peer) -> bool {
        self.lock().contains_key(peer.name())
    }

    /// Why the worker is not ready; empty when it is.
    #[must_use]
    pub fn reasons(&self) -> BTreeMap<&'static str, String> {
        self.lock().clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, String>> {
        // A map of strings is whole whatever panicked beside it.
        self.away.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves until `shutdown`.
///
/// # Errors
/// As the listener gives them.
pub async fn serve(
    listener: TcpListener,
    metrics: Arc<Metrics>,
    health: Arc<Health>,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let router = Router::new()
        .route(
            "/metrics",
            get(async |State(metrics): State<Arc<Metrics>>| {
                ([(header::CONTENT_TYPE, prometheus::TEXT_FORMAT)], metrics.render())
            }),
        )
        .with_state(metrics)
        .route("/livez", get(async || axum::Json(json!({"alive": true}))))
        .merge(Router::new().route("/readyz", get(readyz)).with_state(health));
    axum::serve(listener, router).with_graceful_shutdown(shutdown.cancelled_owned()).await
}

async fn readyz(State(health): State<Arc<Health>>) -> Response {
    let reasons = health.reasons();
    let ready = reasons.is_empty();
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, axum::Json(json!({"ready": ready, "reasons": reasons}))).into_response()
}
