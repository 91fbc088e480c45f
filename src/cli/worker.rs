//! `cns-events worker`

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::failure::Failure;
use super::process;
use crate::config::Config;
use crate::health::{self, Health};
use crate::metrics::{Dependency, Metrics};
use crate::worker::{self, Shared, WorkerError};

pub(super) async fn run(config: Config) -> Result<(), Failure> {
    let (listener, listen) = process::listen("http.listen", config.http.listen).await?;
    let metrics = Arc::new(Metrics::new());
    let health = Arc::new(Health::new(metrics.up.clone(), &Dependency::ALL));
    let shutdown = CancellationToken::new();
    process::stop_on_signals(
        &shutdown,
        "stopping, the current batch is stored and the other messages are requeued",
    )?;
    let health_shutdown = CancellationToken::new();
    tokio::spawn(health::serve(listener, metrics.registry(), health.clone(), health_shutdown.clone()));
    tracing::info!(version = env!("CARGO_PKG_VERSION"), revision = crate::REVISION, http = %listen, "worker started, metrics and health on {listen}");

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
    ended.map_err(|error: WorkerError| Failure::Config(error.to_string()))?;
    tracing::info!("worker stopped");
    Ok(())
}
