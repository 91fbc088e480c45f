//! Connections: how many, how large their headers, how long they may be silent, and how they end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_io_timeout::TimeoutStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::Service;

use super::log_throttle::Throttle;
use crate::metrics::ApiMetrics;

/// Connections at once; more wait to be accepted. Each costs some tens of kilobytes, and its answer (4 MiB at most, about)
/// until the client has taken it.
const CONNECTIONS: usize = 512;

/// Bytes of a request's line and headers (read in growing pieces, so that the last may pass this once): a token with many
/// claims fits four times.
const MAX_HEADER_BYTES: usize = 32 * 1024;

/// Headers of a request.
const MAX_HEADERS: usize = 64;

/// How long a new connection may say nothing.
const FIRST_BYTE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection may be idle, or take over a request's headers: longer than balancers keep one idle (60 s is usual),
/// so that they never send a request into a connection that is being closed.
const HEADER_TIMEOUT: Duration = Duration::from_secs(75);

/// How long a client may take nothing of its answer, as the system's buffers tell: some tens of kilobytes at once.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);

/// What a server bears.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Connections at once.
    pub connections: usize,
    /// How long a new connection may say nothing.
    pub first_byte_timeout: Duration,
    /// How long a connection may be idle, or take over a request's headers.
    pub header_timeout: Duration,
    /// How long a client may take nothing of its answer.
    pub write_timeout: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        Bounds {
            connections: CONNECTIONS,
            first_byte_timeout: FIRST_BYTE_TIMEOUT,
            header_timeout: HEADER_TIMEOUT,
            write_timeout: WRITE_TIMEOUT,
        }
    }
}

/// A pause where the system has no more file descriptors, say.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `shutdown`, then lets the requests in hand end.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    bounds: Bounds,
    metrics: Arc<ApiMetrics>,
    shutdown: CancellationToken,
) {
    let room = Arc::new(Semaphore::new(bounds.connections));
    let (connections, full) = (TaskTracker::new(), Throttle::default());
    loop {
        let accepted = async {
            if room.available_permits() == 0 && full.say().is_some() {
                tracing::warn!(
                    connections = bounds.connections,
                    "no connection is free: others wait to be accepted"
                );
            }
            let permit = room.clone().acquire_owned().await;
            (permit, listener.accept().await)
        };
        let (permit, accepted) = tokio::select! {
            accepted = accepted => accepted,
            () = shutdown.cancelled() => break,
        };
        match accepted {
            Ok((stream, _)) => {
                let (router, metrics, shutdown) = (router.clone(), metrics.clone(), shutdown.clone());
                connections.spawn(async move {
                    metrics.connections.inc();
                    converse(stream, router, bounds, shutdown).await;
                    metrics.connections.dec();
                    drop(permit);
                });
            }
            Err(error) => {
                tracing::warn!("cannot accept a connection: {error}");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener); // whoever comes now goes to another replica
    connections.close();
    connections.wait().await;
}

async fn converse(stream: TcpStream, router: Router, bounds: Bounds, shutdown: CancellationToken) {
    let _ = stream.set_nodelay(true); // a hint: without it all works, later
    // Nobody has a place for saying nothing.
    tokio::select! {
        _ = stream.readable() => {}
        () = tokio::time::sleep(bounds.first_byte_timeout) => return,
        () = shutdown.cancelled() => return,
    }
    let asked = Arc::new(AtomicBool::new(false));
    let service = service_fn({
        let asked = asked.clone();
        move |request| {
            asked.store(true, Ordering::Relaxed);
            router.clone().call(request)
        }
    });
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(bounds.write_timeout));
    let mut connection = std::pin::pin!(
        hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(bounds.header_timeout)
            .max_headers(MAX_HEADERS)
            .max_buf_size(MAX_HEADER_BYTES)
            .serve_connection(TokioIo::new(Box::pin(stream)), service)
    );
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = shutdown.cancelled() => {
            if !asked.load(Ordering::Relaxed) {
                return; // half a request, which may never be a whole one
            }
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!("a connection ended: {error}");
    }
}
