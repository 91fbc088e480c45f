//! Metrics and health over HTTP: `/metrics`, `/livez`, `/readyz` (section 8 of the contract).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

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
    /// Servers that are away; absent when they are reached.
    away: Mutex<BTreeMap<&'static str, Away>>,
}

#[derive(Debug)]
struct Away {
    reason: String,
    /// Time at which the caller logged it; `None` before the server was needed for the first time.
    logged_at: Option<Instant>,
}

/// Interval at which a failure that lasts is logged again.
const LOG_AGAIN: Duration = Duration::from_secs(60);

/// Minimum time between two log lines about reasons that change.
const LOG_CHANGED: Duration = Duration::from_secs(1);

impl Health {
    /// Starts with none of these servers reached, in the gauge too.
    #[must_use]
    pub fn new(up: IntGaugeVec, peers: &[Dependency]) -> Self {
        let not_yet = || Away { reason: NOT_YET.to_owned(), logged_at: None };
        let away = peers.iter().map(|peer| (peer.name(), not_yet())).collect();
        Health { up, away: Mutex::new(away) }
    }

    /// Records an answer of the server. Returns whether it was away until now.
    pub fn reached(&self, peer: Dependency) -> bool {
        self.up.with_label_values(&[peer.name()]).set(1);
        self.lock().remove(peer.name()).is_some()
    }

    /// Records a failure of the server. Returns whether it has to be logged: the server was reached until now or is needed for the
    /// first time, the reason is another, or the last line about it is a minute old.
    pub fn lost(&self, peer: Dependency, reason: &str) -> bool {
        self.up.with_label_values(&[peer.name()]).set(0);
        let mut servers = self.lock();
        let before = servers.get(peer.name());
        let logged_at = before.and_then(|before| before.logged_at);
        let pause =
            if before.is_some_and(|before| before.reason == reason) { LOG_AGAIN } else { LOG_CHANGED };
        let is_news = logged_at.is_none_or(|at| at.elapsed() >= pause);
        let logged_at = if is_news { Some(Instant::now()) } else { logged_at };
        servers.insert(peer.name(), Away { reason: reason.to_owned(), logged_at });
        is_news
    }

    /// Returns whether the server was away when it was last needed.
    #[must_use]
    pub fn is_away(&self, peer: Dependency) -> bool {
        self.lock().contains_key(peer.name())
    }

    /// Returns the reasons why this process is not ready; empty when it is.
    #[must_use]
    pub fn reasons(&self) -> BTreeMap<&'static str, String> {
        self.lock().iter().map(|(peer, away)| (*peer, away.reason.clone())).collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, Away>> {
        // A panic while the lock is held leaves the map valid.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_logged_when_it_begins_and_when_its_reason_changes() {
        let up = IntGaugeVec::new(prometheus::Opts::new("up", "up"), &["peer"]).unwrap();
        let health = Health::new(up, &Dependency::ALL);
        assert!(health.lost(Dependency::Broker, "refused") && !health.lost(Dependency::Broker, "refused"));
        assert!(!health.lost(Dependency::Broker, "changed"), "not twice within a second");
        let past = Instant::now().checked_sub(LOG_CHANGED).unwrap();
        health.lock().get_mut("broker").unwrap().logged_at = Some(past);
        assert!(!health.lost(Dependency::Broker, "changed"), "the reason is the same");
        assert!(health.lost(Dependency::Broker, "other"));
        let past = Instant::now().checked_sub(LOG_AGAIN).unwrap();
        health.lock().get_mut("broker").unwrap().logged_at = Some(past);
        assert!(health.lost(Dependency::Broker, "other"), "a minute later");
        assert!(health.reached(Dependency::Broker) && health.lost(Dependency::Broker, "other"));
    }
}
