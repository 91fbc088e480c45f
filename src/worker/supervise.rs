//! Builds sessions, one after the other, until the worker has to stop.

use std::time::{Duration, Instant};

use futures_util::{FutureExt, StreamExt};
use lapin::{Connection, Event};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::session::SessionLost;
use super::{Shared, lane, unreadable};
use crate::broker::{Broker, TopologyError, Version};
use crate::metrics::Peer;
use crate::patience::Patience;
use crate::store::{Database, UrlError};

/// A session that lived this long was a good one: the next is tried at once.
const GOOD_SESSION: Duration = Duration::from_secs(30);

/// How long the broker may take to say goodbye.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// How long the broker may take to declare the topology.
const DECLARE_TIMEOUT: Duration = Duration::from_secs(30);

/// Why a worker cannot work at all.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The topology is not as configured, found at the first start.
    #[error("{0}")]
    Topology(String),
    /// `amqp.uri` cannot be used.
    #[error("amqp.uri {0}")]
    BrokerUri(#[from] crate::broker::UriError),
    /// `database.url` cannot be used.
    #[error("database.url {0}")]
    DatabaseUrl(#[from] UrlError),
}

/// Works until `shared.shutdown` is cancelled. Failures of either server are waited out.
///
/// # Errors
/// Only what no waiting mends.
pub async fn run(shared: Shared) -> Result<(), WorkerError> {
    let broker = Broker::new(shared.config.amqp.uri.expose(), &shared.name)?;
    let database = Database::from_url(shared.config.database.url.expose())?;
    let mut patience = Patience::endless();
    let mut had_session = false;
    loop {
        let started = Instant::now();
        let mut unreadable = false;
        match session(&shared, &broker, &database, had_session).await {
            Ok(()) => return Ok(()),
            Err(Ended::Mismatch(reason)) if !had_session => return Err(WorkerError::Topology(reason)),
            Err(Ended::Mismatch(reason)) => lost(&shared, &reason),
            Err(Ended::NoConnection(reason)) => lost(&shared, &reason),
            Err(Ended::Lost(end)) => {
                had_session = true;
                lost(&shared, &end.reason);
                unreadable = end.unreadable;
            }
        }
        if started.elapsed() > GOOD_SESSION {
            patience = Patience::endless();
        }
        let pause = patience.pause().unwrap_or(GOOD_SESSION);
        tokio::select! {
            () = shared.shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(pause) => {}
        }
        if unreadable {
            unreadable::set_aside(&shared, &broker).await;
        }
    }
}

/// Why a session ended that was not meant to.
enum Ended {
    /// There never was one.
    NoConnection(String),
    /// What exists on the broker is not what is configured.
    Mismatch(String),
    /// It was there, and then it was not.
    Lost(End),
}

/// The first thing that failed in a session.
struct End {
    reason: String,
    /// It was a message that the client library cannot read.
    unreadable: bool,
}

impl End {
    fn of(error: &lapin::Error) -> Self {
        let unreadable = unreadable::is_unreadable(error);
        let reason = if unreadable {
            "the AMQP client library failed the connection over a message that it cannot read".into()
        } else {
            error.to_string()
        };
        End { reason, unreadable }
    }
}

impl From<&str> for End {
    fn from(reason: &str) -> Self {
        End { reason: reason.to_owned(), unreadable: false }
    }
}

fn lost(shared: &Shared, reason: &str) {
    if shared.health.lost(Peer::Broker, reason) {
        tracing::warn!(reason, "the broker is away: connecting until it is back");
    }
}

/// One connection to the broker, and lanes on it until one of them ends.
async fn session(shared: &Shared, broker: &Broker, database: &Database, again: bool) -> Result<(), Ended> {
    let connecting = tokio::select! {
        () = shared.shutdown.cancelled() => return Ok(()),
        connected = broker.connect("worker") => connected,
    };
    let connection = connecting.map_err(|error| Ended::NoConnection(error.to_string()))?;
    let topology = shared.config.amqp.topology();
    let version = Version::ask(broker).await.map_err(|error| Ended::NoConnection(error.to_string()))?;
    match tokio::time::timeout(DECLARE_TIMEOUT, topology.declare(&connection, version)).await {
        Ok(Ok(())) => {}
        Ok(Err(TopologyError::Mismatch { reason, .. })) => return Err(Ended::Mismatch(reason)),
        Ok(Err(TopologyError::Broker(error))) => return Err(Ended::NoConnection(error.to_string())),
        Err(_) => return Err(Ended::NoConnection("the broker does not answer a declaration".into())),
    }
    shared.health.reached(Peer::Broker);
    if again {
        shared.metrics.reconnects.with_label_values(&[Peer::Broker.name()]).inc();
        tracing::info!("connected to the broker again");
    } else {
        let priorities = topology.priorities(version);
        let lanes = shared.config.worker.lanes;
        tracing::info!(queue = topology.queue, lanes, priorities, "consuming");
    }

    let ended = lanes(shared, broker, database, connection, version).await;
    if shared.shutdown.is_cancelled() { Ok(()) } else { Err(Ended::Lost(ended)) }
}

/// Runs the lanes; returns why the first of them ended.
async fn lanes(
    shared: &Shared,
    broker: &Broker,
    database: &Database,
    connection: Connection,
    version: Option<Version>,
) -> End {
    let connection = std::sync::Arc::new(connection);
    let ending = CancellationToken::new();
    let mut lanes = JoinSet::new();
    for number in 0..shared.config.worker.lanes {
        let (shared, broker, database) = (shared.clone(), broker.clone(), database.clone());
        let (connection, ending) = (connection.clone(), ending.clone());
        lanes.spawn(async move {
            lane::run(shared, number, &connection, broker, database, ending, version).await
        });
    }
    let mut failed: Option<End> = None;
    {
        let mut connection_fails = std::pin::pin!(connection_error(&connection).fuse());
        while !lanes.is_empty() {
            let why = tokio::select! {
                Some(ended) = lanes.join_next() => reason(ended),
                end = &mut connection_fails, if !ending.is_cancelled() => {
                    ending.cancel();
                    // Now, and not when the batches in hand are through.
                    lost(shared, &end.reason);
                    end
                }
            };
            // The other lanes cannot go on without the session. At a shutdown each ends by itself, in order.
            if !shared.shutdown.is_cancelled() {
                ending.cancel();
            }
            // One message ends all of them; not every lane is told why.
            if failed.as_ref().is_none_or(|before| why.unreadable && !before.unreadable) {
                failed = Some(why);
            }
        }
        if let Some(end) = connection_fails.now_or_never().filter(|end| end.unreadable) {
            failed = Some(end);
        }
    }
    // Closing tells the broker; where it is gone there is nobody to tell.
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, connection.close(200, "done".into())).await;
    failed.unwrap_or_else(|| "no lane ran".into())
}

fn reason(ended: Result<Result<(), SessionLost>, tokio::task::JoinError>) -> End {
    match ended {
        Ok(Ok(())) => "a lane ended".into(),
        Ok(Err(SessionLost::Broker(error))) => End::of(&error),
        Ok(Err(lost)) => lost.to_string().as_str().into(),
        Err(panicked) => {
            tracing::error!(%panicked, "a lane failed: this is a bug");
            "a lane failed".into()
        }
    }
}

/// Resolves when the connection has failed.
async fn connection_error(connection: &Connection) -> End {
    let mut events = std::pin::pin!(connection.events_listener());
    loop {
        match events.next().await {
            Some(Event::Error(error)) => return End::of(&error),
            Some(Event::ConnectionBlocked(reason)) => {
                tracing::warn!(reason, "the broker blocks the connection")
            }
            Some(_) => {}
            None => return "the connection ended".into(),
        }
    }
}
