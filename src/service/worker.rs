//! The worker.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{ServiceError, process};
use crate::config::{AggregateInWorker, Config};
use crate::health::{self, Health};
use crate::metrics::{AggregateMetrics, Dependency, Metrics};
use crate::summaries::Task;
use crate::worker::{self, Shared, WorkerError};

/// Consumes the queue until a signal.
pub(crate) async fn run(config: Config) -> Result<(), ServiceError> {
    let (listener, listen) = process::listen("http.listen", &config.http.listen).await?;
    let metrics = Arc::new(Metrics::new());
    let broker = config.amqp.endpoint("worker").map_err(anyhow::Error::from)?.place();
    let database = config.database.endpoint().map_err(anyhow::Error::from)?.place();
    let health = Health::new(metrics.up.clone(), &Dependency::ALL)
        .with_address(Dependency::Broker, broker)
        .with_address(Dependency::Database, database);
    let health = Arc::new(health);
    let shutdown = CancellationToken::new();
    process::stop_on_signals(
        &shutdown,
        "stopping, the current batch is stored and the other messages are requeued",
    )?;
    let health_shutdown = CancellationToken::new();
    tokio::spawn(health::serve(listener, metrics.registry(), health.clone(), health_shutdown.clone()));
    tracing::info!(version = env!("CARGO_PKG_VERSION"), revision = crate::REVISION, http = %listen, "worker started, metrics and health on {listen}");

    start_aggregate(&config, &metrics, &shutdown)?;
    let stop_timeout = Duration::from_secs(config.worker.shutdown_seconds);
    let shared = Shared::new(config, metrics, health, shutdown.clone());
    let ended = tokio::select! {
        ended = worker::run(shared) => ended,
        () = async { shutdown.cancelled().await; tokio::time::sleep(stop_timeout).await } => {
            tracing::warn!("stop timed out, the broker requeues the unsettled messages");
            Ok(())
        }
    };
    health_shutdown.cancel();
    ended.map_err(|error: WorkerError| ServiceError::Config(error.to_string()))?;
    tracing::info!("worker stopped");
    Ok(())
}

/// Starts the task that keeps the summaries within this worker, where the configuration and the login allow it. It is in nothing's way:
/// a failure of it is logged, and the worker stays ready.
fn start_aggregate(
    config: &Config,
    metrics: &Metrics,
    shutdown: &CancellationToken,
) -> Result<(), ServiceError> {
    let enabled = config.aggregate.enabled;
    if enabled == AggregateInWorker::Never {
        return Ok(());
    }
    let own = Arc::new(AggregateMetrics::within(metrics.registry()));
    // The worker's own gauge is about its lanes.
    let health = Arc::new(Health::new(AggregateMetrics::new().up(), &[Dependency::Database]));
    let task = Task::new(Task::aggregator(config)?, own, health, shutdown.clone());
    tokio::spawn(async move {
        match enabled {
            AggregateInWorker::Auto => task.run_if_allowed().await,
            _ => task.run().await,
        }
    });
    Ok(())
}
