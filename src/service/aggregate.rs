//! The task that keeps the summaries, as a process of its own.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::{ServiceError, process};
use crate::config::Config;
use crate::health::{self, Health};
use crate::metrics::{AggregateMetrics, Dependency};
use crate::summaries::Task;

/// Keeps the summaries until a signal.
pub(crate) async fn run(config: Config) -> Result<(), ServiceError> {
    let (listener, listen) = process::listen("http.listen", &config.http.listen).await?;
    let metrics = Arc::new(AggregateMetrics::new());
    let database = config.database.endpoint().map_err(anyhow::Error::from)?.place();
    let health = Health::new(metrics.up(), &[Dependency::Database]);
    let health = Arc::new(health.with_address(Dependency::Database, database));
    let shutdown = CancellationToken::new();
    process::stop_on_signals(&shutdown, "stopping after the current round")?;
    let health_shutdown = CancellationToken::new();
    tokio::spawn(health::serve(listener, metrics.registry(), health.clone(), health_shutdown.clone()));
    tracing::info!(version = env!("CARGO_PKG_VERSION"), revision = crate::REVISION, http = %listen, "aggregate started, metrics and health on {listen}");
    Task::new(Task::aggregator(&config)?, metrics, health, shutdown).run().await;
    health_shutdown.cancel();
    tracing::info!("aggregate stopped");
    Ok(())
}
