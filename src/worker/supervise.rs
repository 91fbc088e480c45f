//! Builds sessions, one after the other, until the worker has to stop.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::session::SessionLost;
use super::{Shared, lane};
use crate::backoff::Backoff;
use crate::broker::{BrokerEndpoint, TopologyError, Version};
use crate::metrics::Dependency;
use crate::store::{DatabaseEndpoint, UrlError};

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
    let broker = BrokerEndpoint::new(shared.config.amqp.uri.expose(), &shared.name)?;
    let database = DatabaseEndpoint::from_url(shared.config.database.url.expose())?;
    let mut backoff = Backoff::default();
    let mut had_session = false;
    loop {
        let started = Instant::now();
        match session(&shared, &broker, &database, had_session).await {
            Ok(()) => return Ok(()),
            Err(Ended::Mismatch(reason)) if !had_session => return Err(WorkerError::Topology(reason)),
            Err(Ended::Mismatch(reason) | Ended::NoConnection(reason)) => shared.lost(&reason),
            Err(Ended::Lost(reason)) => {
                had_session = true;
                shared.lost(&reason);
            }
        }
        if started.elapsed() > GOOD_SESSION {
            backoff = Backoff::default();
        }
        let pause = backoff.next_delay();
        tokio::select! {
            () = shared.shutdown.cancelled() => return Ok(()),
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// Why a session ended that was not meant to.
enum Ended {
    /// There never was one.
    NoConnection(String),
    /// What exists on the broker is not what is configured.
    Mismatch(String),
    /// It was there, and then it was not: the first thing that failed.
    Lost(String),
}

/// The topology, and lanes that consume until one of them ends.
async fn session(
    shared: &Shared,
    broker: &BrokerEndpoint,
    database: &DatabaseEndpoint,
    again: bool,
) -> Result<(), Ended> {
    let asked = async {
        let version = Version::ask(broker).await.map_err(|error| Ended::NoConnection(error.to_string()))?;
        match declare(shared, broker, version).await {
            Ok(()) => Ok(version),
            Err(TopologyError::Mismatch { reason, .. }) => Err(Ended::Mismatch(reason)),
            Err(TopologyError::Broker(error)) => Err(Ended::NoConnection(error.to_string())),
        }
    };
    let version = tokio::select! {
        () = shared.shutdown.cancelled() => return Ok(()),
        version = asked => version?,
    };
    shared.health.reached(Dependency::Broker);
    if again {
        shared.metrics.reconnects.with_label_values(&[Dependency::Broker.name()]).inc();
        tracing::info!("connected to the broker again");
    } else {
        let amqp = shared.config.amqp.topology();
        let (queue, priorities) = (amqp.queue.clone(), amqp.priorities(version));
        tracing::info!(queue, lanes = shared.config.worker.lanes, priorities, "consuming");
    }
    let ended = lanes(shared, broker, database, version).await;
    if shared.shutdown.is_cancelled() { Ok(()) } else { Err(Ended::Lost(ended)) }
}

/// Declares the topology, on a connection that is gone again when that is done.
pub(super) async fn declare(
    shared: &Shared,
    broker: &BrokerEndpoint,
    version: Option<Version>,
) -> Result<(), TopologyError> {
    let connection = broker.connect("topology").await?;
    let topology = shared.config.amqp.topology();
    let declared = tokio::time::timeout(DECLARE_TIMEOUT, topology.declare(&connection, version)).await;
    // Closing tells the broker; where it is gone there is nobody to tell.
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, connection.close(200, "done".into())).await;
    declared.unwrap_or_else(|_| {
        let silent = std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer to a declaration");
        Err(lapin::Error::from(silent).into())
    })
}

/// Runs the lanes; returns why the first of them ended.
async fn lanes(
    shared: &Shared,
    broker: &BrokerEndpoint,
    database: &DatabaseEndpoint,
    version: Option<Version>,
) -> String {
    let ending = CancellationToken::new();
    let mut lanes = JoinSet::new();
    for number in 0..shared.config.worker.lanes {
        let (shared, broker, database) = (shared.clone(), broker.clone(), database.clone());
        lanes.spawn(lane::run(shared, number, broker, database, ending.clone(), version));
    }
    let mut first = None;
    while let Some(ended) = lanes.join_next().await {
        let why = match ended {
            Ok(Ok(()) | Err(SessionLost::Ended)) => None,
            Ok(Err(lost)) => Some(lost.to_string()),
            Err(panicked) => {
                tracing::error!(%panicked, "a lane failed: this is a bug");
                Some("a lane failed".into())
            }
        };
        first = first.or(why);
        // The other lanes cannot go on without the session. At a shutdown each ends by itself, in order.
        if !shared.shutdown.is_cancelled() {
            if let Some(why) = &first {
                // Now, and not when the batches in hand are through.
                shared.lost(why);
            }
            ending.cancel();
        }
    }
    first.unwrap_or_else(|| "a lane ended".into())
}
