//! Builds sessions, one after the other, until the worker has to stop.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::rows::RowStore;
use super::session::{Session, SessionLost};
use super::{Shared, lane};
use crate::amqp::AmqpError;
use crate::backoff::Backoff;
use crate::broker::{BrokerEndpoint, TopologyError};
use crate::metrics::Dependency;
use crate::store::{DatabaseEndpoint, UrlError, Writer};

/// Age from which a session counts as a good one: its successor is built without a long delay.
const GOOD_SESSION: Duration = Duration::from_secs(30);

/// Interval at which the database is checked while the broker is away, and the timeout of the check.
const DATABASE_CHECK: Duration = Duration::from_secs(5);
const DATABASE_CHECK_TIMEOUT: Duration = Duration::from_secs(2);

/// Reason why a worker cannot work at all.
#[derive(Debug, thiserror::Error)]
pub enum WorkerError {
    /// The topology is not as configured, found at the first start.
    #[error(transparent)]
    Topology(TopologyError),
    /// The queue is a stream, whose messages are not removed by an ack.
    #[error("amqp.queue = {0}: the queue is a stream: a worker needs a quorum queue or a classic queue")]
    Stream(String),
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
/// Only failures that no retry fixes.
pub async fn run(shared: Shared) -> Result<(), WorkerError> {
    let broker = shared.config.amqp.endpoint(&shared.name)?;
    let database = shared.config.database.endpoint()?;
    let mut backoff = Backoff::default();
    let mut had_session = false;
    let mut checked_at: Option<Instant> = None;
    loop {
        let started = Instant::now();
        let session = Session::new(shared.shutdown.clone());
        let mut no_lanes = false;
        match run_session(&shared, &session, &broker, &database, had_session).await {
            Ok(()) => return Ok(()),
            Err(Ended::Topology(error @ TopologyError::Mismatch { .. })) if !had_session => {
                return Err(WorkerError::Topology(error));
            }
            Err(Ended::Topology(error)) => {
                shared.broker_unreached(&error.to_string());
                no_lanes = true;
            }
            Err(Ended::Stream) => return Err(WorkerError::Stream(shared.config.amqp.queue.clone())),
            Err(Ended::Lost(reason)) => {
                had_session = true;
                shared.broker_lost(&reason);
            }
        }
        if started.elapsed() > GOOD_SESSION {
            backoff = Backoff::default();
        }
        let pause = async {
            let delay = tokio::time::sleep(backoff.next_delay());
            if no_lanes && checked_at.is_none_or(|at| at.elapsed() > DATABASE_CHECK) {
                checked_at = Some(Instant::now());
                tokio::join!(delay, check_database(&shared, session, database.clone()));
            } else {
                delay.await;
            }
        };
        tokio::select! {
            () = shared.shutdown.cancelled() => return Ok(()),
            () = pause => {}
        }
    }
}

/// Checks the database while no lane runs that would find out about it: /readyz and the log report both servers.
async fn check_database(shared: &Shared, session: Session, database: DatabaseEndpoint) {
    let settings = &shared.config.database;
    let (timeout, prepare) = (settings.statement_timeout(), settings.prepared_statements);
    let timeout = timeout.min(DATABASE_CHECK_TIMEOUT);
    let mut rows = RowStore::new(shared.clone(), session, Writer::new(database, timeout, prepare));
    rows.check().await;
}

/// Reason why a session ended that was not meant to.
enum Ended {
    /// It never began: the broker is away, or has something else than what is configured.
    Topology(TopologyError),
    /// The queue is a stream.
    Stream,
    /// It ran, and this failed first.
    Lost(String),
}

/// Declares the topology, and runs lanes that consume until one of them ends.
async fn run_session(
    shared: &Shared,
    session: &Session,
    broker: &BrokerEndpoint,
    database: &DatabaseEndpoint,
    again: bool,
) -> Result<(), Ended> {
    let topology = shared.config.amqp.topology();
    let version = tokio::select! {
        () = shared.shutdown.cancelled() => return Ok(()),
        version = topology.ensure(broker) => version.map_err(Ended::Topology)?,
    };
    shared.health.reached(Dependency::Broker);
    if again {
        shared.metrics.reconnects.with_label_values(&[Dependency::Broker.name()]).inc();
        tracing::info!("connected to RabbitMQ again");
    } else {
        let (queue, priorities) = (&topology.queue, topology.priorities(version));
        tracing::info!(queue, lanes = shared.config.worker.lanes, priorities, "consuming");
    }
    let ended = run_lanes(shared, session, broker, database).await;
    if session.is_shutting_down() { Ok(()) } else { Err(ended) }
}

/// Runs the lanes, and returns the reason why the first of them ended.
async fn run_lanes(
    shared: &Shared,
    session: &Session,
    broker: &BrokerEndpoint,
    database: &DatabaseEndpoint,
) -> Ended {
    let mut lanes = JoinSet::new();
    for number in 0..shared.config.worker.lanes {
        let (broker, database) = (broker.clone(), database.clone());
        lanes.spawn(lane::run(shared.clone(), number, broker, database, session.clone()));
    }
    let mut first = None;
    while let Some(ended) = lanes.join_next().await {
        let reason = match ended {
            Ok(Ok(()) | Err(SessionLost::Ended)) => None,
            Ok(Err(SessionLost::Broker(AmqpError::Stream))) => {
                session.end();
                return Ended::Stream;
            }
            Ok(Err(lost)) => Some(lost.to_string()),
            Err(panic) => {
                tracing::error!(error = %panic, "a lane panicked: this is a bug");
                Some("a lane panicked".into())
            }
        };
        first = first.or(reason);
        // The other lanes cannot go on without the session. At a shutdown each ends by itself, in order.
        if !session.is_shutting_down() {
            if let Some(reason) = &first {
                // Reported at once, and not only when the batches in hand are stored.
                shared.broker_lost(reason);
            }
            session.end();
        }
    }
    Ended::Lost(first.unwrap_or_else(|| "a lane ended".into()))
}
