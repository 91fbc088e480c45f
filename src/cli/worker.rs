//! `cns-events worker`

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Failure, process};
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
        "stopping: the batch in hand is stored, the rest goes back to the queue",
    )?;
    let serving_ends = CancellationToken::new();
    tokio::spawn(health::serve(listener, metrics.registry(), health.clone(), serving_ends.clone()));
    tracing::info!(version = env!("CARGO_PKG_VERSION"), revision = crate::REVISION, http = %listen, "worker starts");

    let patience = Duration::from_secs(config.worker.shutdown_seconds);
    let shared =
        Shared { config: Arc::new(config), metrics, health, shutdown: shutdown.clone(), name: name() };
    let ended = tokio::select! {
        ended = worker::run(shared) => ended,
        () = async { shutdown.cancelled().await; tokio::time::sleep(patience).await } => {
            tracing::warn!("the stop took too long: what is unsettled goes back to the queue with the connection");
            Ok(())
        }
    };
    serving_ends.cancel();
    match ended {
        Ok(()) => {
            tracing::info!("worker stopped");
            Ok(())
        }
        Err(WorkerError::Topology(problem)) => Err(Failure::Config(problem.to_string())),
        Err(error) => Err(Failure::Config(error.to_string())),
    }
}

/// Tells the workers of a pool apart: the host (in Kubernetes the pod) and the process.
fn name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = match host.trim() {
        "" => "worker",
        host => host,
    };
    format!("{host}-{}", std::process::id())
}
