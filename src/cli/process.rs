//! Listening and stopping, as every long-running command does it.

use std::net::SocketAddr;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::Failure;

/// Exit code of a process that a second Ctrl-C ended (128 + SIGINT).
const EXIT_INTERRUPTED: i32 = 130;

/// Listens on the address that `key` holds; returns also the one it became, because with port 0 the system chooses.
pub(super) async fn listen(key: &str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), Failure> {
    let listener = TcpListener::bind(address).await.map_err(|error| {
        Failure::Config(format!("{key} = {address}: cannot listen there: {error}; name a free address"))
    })?;
    let address = listener.local_addr().unwrap_or(address);
    Ok((listener, address))
}

/// The first signal asks for a graceful stop, which `meaning` describes; the second ends the process at once.
pub(super) fn stop_on_signals(shutdown: &CancellationToken, meaning: &'static str) -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate()).map_err(anyhow::Error::from)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(anyhow::Error::from)?;
    let shutdown = shutdown.clone();
    tokio::spawn(async move {
        for last in [false, true] {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if last {
                std::process::exit(EXIT_INTERRUPTED);
            }
            tracing::info!("{meaning}");
            shutdown.cancel();
        }
    });
    Ok(())
}
