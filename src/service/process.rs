//! Listening and stopping of the long-running commands.

use std::net::SocketAddr;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::ServiceError;

/// Exit code after a second Ctrl-C (128 + SIGINT).
const EXIT_INTERRUPTED: i32 = 130;

/// Listens on the address of a configuration key. Returns the listener and its address, which the system chooses for port 0.
pub(crate) async fn listen(
    key: &str,
    address: SocketAddr,
) -> Result<(TcpListener, SocketAddr), ServiceError> {
    let listener = TcpListener::bind(address).await.map_err(|error| {
        ServiceError::Config(format!(
            "{key} = {address}: cannot listen on this address: {error}; use another address"
        ))
    })?;
    let address = listener.local_addr().unwrap_or(address);
    Ok((listener, address))
}

/// Stops the service at the first signal, with `log_line`; a second signal ends the process at once.
pub(crate) fn stop_on_signals(
    shutdown: &CancellationToken,
    log_line: &'static str,
) -> Result<(), ServiceError> {
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
            tracing::info!("{log_line}");
            shutdown.cancel();
        }
    });
    Ok(())
}
