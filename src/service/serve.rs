//! The read API.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{ServiceError, process};
use crate::api::{self, Api, Tokens};
use crate::broker::notices;
use crate::config::Config;
use crate::health::{self, Health};
use crate::http::{self, ConnectionLimits};
use crate::live::Hub;
use crate::metrics::{ApiMetrics, Dependency};
use crate::store::read::Reader;

/// Database connections of all streams of a process, beside those of the other requests: looks are short.
const STREAM_CONNECTIONS: usize = 4;

/// Runs the read API until a signal.
pub(crate) async fn run(config: Config) -> Result<(), ServiceError> {
    let tokens = Arc::new(Tokens::new(&config.api).map_err(|error| ServiceError::Config(error.to_string()))?);
    let database = config.database.endpoint().map_err(anyhow::Error::from)?;
    let timeout = config.database.statement_timeout();
    let reader = Reader::new(database.clone(), config.database.pool_size, timeout);
    let live_database = database.clone();

    let (http_listener, http_address) = process::listen("http.listen", &config.http.listen).await?;
    let (api_listener, api_address) = process::listen("api.listen", &config.api.listen).await?;
    let metrics = Arc::new(ApiMetrics::new());
    let health = Health::new(metrics.up.clone(), &[Dependency::Database]);
    let health = Arc::new(health.with_address(Dependency::Database, database.place()));
    let shutdown = CancellationToken::new();
    process::stop_on_signals(&shutdown, "stopping, requests in progress are completed")?;
    let health_shutdown = CancellationToken::new();
    tokio::spawn(health::serve(http_listener, metrics.registry(), health.clone(), health_shutdown.clone()));
    // On a connection of its own, so that a busy pool does not count as an unreachable database.
    tokio::spawn(api::watch_database(Reader::new(database, 1, timeout), health.clone()));
    let hub = Hub::new(
        Reader::new(live_database, STREAM_CONNECTIONS, timeout),
        config.api.streams,
        config.api.streams_per_tenant,
    );
    listen_for_notices(&config, &hub, &shutdown)?;
    let api = Api::new(&config.api, reader, hub, tokens.clone(), metrics.clone(), shutdown.clone());
    tokio::spawn(api::housekeeping(api.clone(), tokens));
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"), revision = crate::REVISION, api = %api_address, http = %http_address,
        "read API started on {api_address}, metrics and health on {http_address}"
    );

    let router = api::router(&api, &config.api, health);
    let mut limits = ConnectionLimits::default();
    limits.max_connections += config.api.streams;
    let stop_timeout = Duration::from_millis(config.api.request_timeout_ms);
    tokio::select! {
        () = http::serve(api_listener, router, limits, Some(metrics.connections.clone()), shutdown.clone()) => {}
        () = async { shutdown.cancelled().await; tokio::time::sleep(stop_timeout).await } => {
            tracing::warn!("stop timed out, closing the remaining connections");
        }
    }
    health_shutdown.cancel();
    tracing::info!("read API stopped");
    Ok(())
}

/// Lets notices from the broker wake the streams, where a broker is configured. Without one streams look every two seconds.
fn listen_for_notices(config: &Config, hub: &Hub, shutdown: &CancellationToken) -> Result<(), ServiceError> {
    if config.amqp.is_unset || config.amqp.stored_exchange.is_empty() {
        tracing::info!("streams look every two seconds: no broker is configured that would wake them");
        return Ok(());
    }
    let broker = config.amqp.endpoint("cns-events serve").map_err(anyhow::Error::from)?;
    let (hub, exchange) = (hub.clone(), config.amqp.stored_exchange.clone());
    tokio::spawn(notices::listen(broker, exchange, move |tenants| hub.wake(tenants), shutdown.clone()));
    Ok(())
}
