//! `cns-events worker`

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::Failure;
use crate::config::Config;
use crate::health::{self, Health};
use crate::metrics::Metrics;
use crate::worker::{self, Shared, WorkerError};

/// The exit code of a process that a second Ctrl-C ended (128 + SIGINT).
const EXIT_INTERRUPTED: i32 = 130;

pub(super) async fn run(config: Config) -> Result<(), Failure> {
    let listen = config.http.listen;
    let listener = TcpListener::bind(listen).await.map_err(|error| {
        Failure::Config(format!("http.listen = {listen}: cannot listen there: {error}; name a free address"))
    })?;
    // With port 0 the system chose one.
    let listen = listener.local_addr().unwrap_or(listen);
    let metrics = Arc::new(Metrics::new());
    let health = Arc::new(Health::new(metrics.clone()));
    let shutdown = CancellationToken::new();
    stop_on_signals(shutdown.clone())?;
    let serving_ends = CancellationToken::new();
    tokio::spawn(health::serve(listener, metrics.clone(), health.clone(), serving_ends.clone()));
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
        Err(WorkerError::Topology(problem)) => Err(Failure::Config(problem)),
        Err(error) => Err(Failure::Config(error.to_string())),
    }
}

/// The first signal asks for a graceful stop, the second ends the process at once.
fn stop_on_signals(shutdown: CancellationToken) -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate()).map_err(anyhow::Error::from)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(anyhow::Error::from)?;
    tokio::spawn(async move {
        for last in [false, true] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if last {
                std::process::exit(EXIT_INTERRUPTED);
            }
            tracing::info!("stopping: the batch in hand is stored, the rest goes back to the queue");
            shutdown.cancel();
        }
    });
    Ok(())
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
