//! Metrics and health over HTTP: `/metrics`, `/livez`, `/readyz` (section 8 of the contract).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State as Extract;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use chrono::{DateTime, SecondsFormat, Utc};
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
    servers: Mutex<BTreeMap<&'static str, Server>>,
}

/// One server, as far as it is known.
#[derive(Debug)]
struct Server {
    /// Host and port, where there is one address for all uses.
    address: Option<String>,
    state: State,
    /// Time of the last change of the state.
    since: DateTime<Utc>,
    /// Reason that the caller logged last, with its time; `None` where the server was reached since, or not tried.
    logged: Option<(Instant, String)>,
}

#[derive(Debug)]
enum State {
    NotTried,
    Reached,
    Away(String),
}

/// Interval at which a failure that lasts is logged again.
const LOG_AGAIN: Duration = Duration::from_secs(60);

/// Minimum time between two log lines about reasons that change.
const LOG_CHANGED: Duration = Duration::from_secs(1);

impl Health {
    /// Starts with none of these servers reached, in the gauge too.
    #[must_use]
    pub fn new(up: IntGaugeVec, peers: &[Dependency]) -> Self {
        let not_tried = || Server { address: None, state: State::NotTried, since: Utc::now(), logged: None };
        let servers = peers.iter().map(|peer| (peer.name(), not_tried())).collect();
        Health { up, servers: Mutex::new(servers) }
    }

    /// Sets the address of a server, which `/readyz` names.
    #[must_use]
    pub fn with_address(self, peer: Dependency, address: String) -> Self {
        if let Some(server) = self.lock().get_mut(peer.name()) {
            server.address = Some(address);
        }
        self
    }

    /// Records an answer of the server. Returns whether it was away until now.
    pub fn reached(&self, peer: Dependency) -> bool {
        self.up.with_label_values(&[peer.name()]).set(1);
        let mut servers = self.lock();
        let Some(server) = servers.get_mut(peer.name()) else { return false };
        let is_news = !matches!(server.state, State::Reached);
        if is_news {
            (server.state, server.since, server.logged) = (State::Reached, Utc::now(), None);
        }
        is_news
    }

    /// Records a failure of the server. Returns whether it has to be logged: the server was reached until now or is needed for the
    /// first time, the reason is another than the one that was logged, or the last line about it is a minute old.
    pub fn lost(&self, peer: Dependency, reason: &str) -> bool {
        self.up.with_label_values(&[peer.name()]).set(0);
        let mut servers = self.lock();
        let Some(server) = servers.get_mut(peer.name()) else { return true };
        if !matches!(server.state, State::Away(_)) {
            server.since = Utc::now();
        }
        server.state = State::Away(reason.to_owned());
        let is_news = server.logged.as_ref().is_none_or(|(at, logged)| {
            at.elapsed() >= if logged == reason { LOG_AGAIN } else { LOG_CHANGED }
        });
        if is_news {
            server.logged = Some((Instant::now(), reason.to_owned()));
        }
        is_news
    }

    /// Returns whether the server was away when it was last needed.
    #[must_use]
    pub fn is_away(&self, peer: Dependency) -> bool {
        self.lock().get(peer.name()).is_some_and(|server| !matches!(server.state, State::Reached))
    }

    /// Returns the state of every server.
    fn readiness(&self) -> Readiness {
        let servers = self.lock();
        let known = |server: &Server| {
            let (state, reason) = match &server.state {
                State::NotTried => ("not_tried", Some(NOT_YET.to_owned())),
                State::Reached => ("reached", None),
                State::Away(reason) => ("away", Some(reason.clone())),
            };
            let since = server.since.to_rfc3339_opts(SecondsFormat::Millis, true);
            ServerState { state, since, address: server.address.clone(), reason }
        };
        let servers: BTreeMap<_, _> = servers.iter().map(|(peer, server)| (*peer, known(server))).collect();
        let reasons: BTreeMap<_, _> =
            servers.iter().filter_map(|(peer, server)| Some((*peer, server.reason.clone()?))).collect();
        Readiness { ready: reasons.is_empty(), reasons, servers }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, Server>> {
        // A panic while the lock is held leaves the map valid.
        self.servers.lock().unwrap_or_else(PoisonError::into_inner)
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
            get(async |Extract(registry): Extract<Registry>| {
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
    /// Every server, as far as it is known.
    servers: BTreeMap<&'static str, ServerState>,
}

/// State of one server.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub struct ServerState {
    /// `reached`, `away`, or `not_tried`: nothing needed it so far.
    state: &'static str,
    /// Time since when it is in this state.
    since: String,
    /// Host and port.
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<String>,
    /// Reason why it is not reached.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// Report that the process can make progress; depends on no server
#[utoipa::path(get, path = "/livez", tag = "health", responses((status = 200, description = "The process can make progress", body = Liveness)))]
pub(crate) async fn livez() -> axum::Json<Liveness> {
    axum::Json(Liveness { alive: true })
}

/// Reports the state of every server, with the servers' own error texts for the operator.
async fn readyz(Extract(health): Extract<Arc<Health>>) -> Response {
    answer(health.readiness())
}

/// Report whether every server is reached
#[utoipa::path(get, path = "/readyz", operation_id = "readyz", tag = "health", responses(
    (status = 200, description = "Every server is reached", body = Readiness),
    (status = 503, description = "A server is not reached, with the reason", body = Readiness),
))]
pub(crate) async fn readyz_for_all(Extract(health): Extract<Arc<Health>>) -> Response {
    let mut readiness = health.readiness();
    // The servers' own error texts name logins and addresses.
    let hidden = || "not reached; the log says why".to_owned();
    readiness.reasons.values_mut().for_each(|reason| *reason = hidden());
    for server in readiness.servers.values_mut() {
        server.address = None;
        server.reason = server.reason.take().map(|_| hidden());
    }
    answer(readiness)
}

fn answer(readiness: Readiness) -> Response {
    let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, axum::Json(readiness)).into_response()
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
        let logged_ago = |ago| {
            let mut servers = health.lock();
            let logged = servers.get_mut("broker").unwrap().logged.as_mut().unwrap();
            logged.0 = Instant::now().checked_sub(ago).unwrap();
        };
        logged_ago(LOG_CHANGED);
        assert!(health.lost(Dependency::Broker, "changed"), "it was not logged within the second");
        logged_ago(LOG_CHANGED);
        assert!(!health.lost(Dependency::Broker, "changed"), "the reason is the same");
        assert!(health.lost(Dependency::Broker, "other"));
        logged_ago(LOG_AGAIN);
        assert!(health.lost(Dependency::Broker, "other"), "a minute later");
        assert!(health.reached(Dependency::Broker) && health.lost(Dependency::Broker, "other"));
    }
}
