//! The HTTP server of every process, with limits on connections, headers and idle clients.
//!
//! axum's own server has neither a header timeout nor a write timeout, so that a slow client could occupy it forever.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use prometheus::IntGauge;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

use crate::log_throttle::LogThrottle;

/// Simultaneous connections; further ones wait to be accepted. Each takes some tens of kilobytes, and its response (about 4 MiB
/// at most) until the client has received it.
const MAX_CONNECTIONS: usize = 512;

/// Size of a request's line and headers, in bytes (read in growing pieces, so that the last one may exceed this once): four
/// times a token with many claims.
const MAX_HEADER_BYTES: usize = 32 * 1024;

/// Number of headers of a request.
const MAX_HEADERS: usize = 64;

/// Time until a new connection must send its first byte.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(10);

/// Time for the headers of a request, and maximum idle time of a connection: longer than load balancers keep an idle connection
/// (usually 60 s), so that they do not send a request into a connection that is being closed.
const HEADER_TIMEOUT: Duration = Duration::from_secs(75);

/// Time in which a client must take some of its response, as far as the system's buffers show: some tens of kilobytes at once.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// Limits of a server.
#[derive(Clone, Copy, Debug)]
pub struct ConnectionLimits {
    /// Number of simultaneous connections.
    pub max_connections: usize,
    /// Time until a new connection must send its first byte.
    pub first_byte_timeout: Duration,
    /// Time for the headers of a request, and maximum idle time of a connection.
    pub header_timeout: Duration,
    /// Time in which a client must take some of its response.
    pub write_timeout: Duration,
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        ConnectionLimits {
            max_connections: MAX_CONNECTIONS,
            first_byte_timeout: FIRST_BYTE_TIMEOUT,
            header_timeout: HEADER_TIMEOUT,
            write_timeout: WRITE_TIMEOUT,
        }
    }
}

/// Pause after a failed accept, for example without a free file descriptor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `shutdown`, then until the requests in progress are answered. `open_connections` counts the open connections.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: ConnectionLimits,
    open_connections: Option<IntGauge>,
    shutdown: CancellationToken,
) {
    let slots = Arc::new(Semaphore::new(limits.max_connections));
    let (connections, all_in_use) = (TaskTracker::new(), LogThrottle::default());
    loop {
        let accepted = async {
            if slots.available_permits() == 0 && all_in_use.allow().is_some() {
                tracing::warn!(
                    connections = limits.max_connections,
                    "all {} connections are in use, new ones wait to be accepted",
                    limits.max_connections
                );
            }
            let slot = slots.clone().acquire_owned().await;
            (slot, listener.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            accepted = accepted => accepted,
            () = shutdown.cancelled() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let (router, open, shutdown) = (router.clone(), open_connections.clone(), shutdown.clone());
                connections.spawn(async move {
                    open.iter().for_each(IntGauge::inc);
                    serve_connection(stream, router, limits, shutdown).await;
                    open.iter().for_each(IntGauge::dec);
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener); // new clients connect to another replica
    connections.close();
    connections.wait().await;
}

async fn serve_connection(
    stream: TcpStream,
    router: Router,
    limits: ConnectionLimits,
    shutdown: CancellationToken,
) {
    let _ = stream.set_nodelay(true); // only a matter of latency
    // A client that sends nothing must not keep a connection slot.
    tokio::select! {
        _ = stream.readable() => {}
        () = tokio::time::sleep(limits.first_byte_timeout) => return,
        () = shutdown.cancelled() => return,
    }
    let received_request = Arc::new(AtomicBool::new(false));
    let service = service_fn({
        let received_request = received_request.clone();
        move |request| {
            received_request.store(true, Ordering::Relaxed);
            router.clone().call(request)
        }
    });
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(limits.write_timeout));
    let mut connection = std::pin::pin!(
        hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.header_timeout)
            .max_headers(MAX_HEADERS)
            .max_buf_size(MAX_HEADER_BYTES)
            .serve_connection(TokioIo::new(Box::pin(stream)), service)
            .with_upgrades()
    );
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            if !received_request.load(Ordering::Relaxed) {
                return; // the client may never send the rest of its first request
            }
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended with an error: {error}");
    }
}
