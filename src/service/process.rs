//! Listening and stopping of the long-running commands.

use std::net::SocketAddr;

use tokio::net::{TcpListener, lookup_host};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::ServiceError;
use crate::config::Listen;

/// Exit code after a second Ctrl-C (128 + SIGINT).
const EXIT_INTERRUPTED: i32 = 130;

/// Listens on the address of a configuration key. Returns the listener and its address, which the system chooses for port 0.
pub(crate) async fn listen(key: &str, listen: &Listen) -> Result<(TcpListener, SocketAddr), ServiceError> {
    bind(listen).await.map_err(|error| {
        ServiceError::Config(format!(
            "{key} = {listen}: cannot listen on this address: {error}; use another address"
        ))
    })
}

async fn bind(listen: &Listen) -> std::io::Result<(TcpListener, SocketAddr)> {
    let mut addresses: Vec<SocketAddr> =
        lookup_host(listen.parts().map_err(std::io::Error::other)?).await?.collect();
    // localhost is both: most clients try the address of version 4.
    addresses.sort_by_key(SocketAddr::is_ipv6);
    let listener = TcpListener::bind(addresses.as_slice()).await?;
    let address = listener.local_addr()?;
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
