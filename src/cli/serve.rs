//! `cns-events serve`

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::failure::Failure;
use super::process;
use crate::api::{self, Api, Tokens};
use crate::config::Config;
use crate::health::{self, Health};
use crate::http::{self, ConnectionLimits};
use crate::metrics::{ApiMetrics, Dependency};
use crate::store::DatabaseEndpoint;
use crate::store::read::Reader;

/// Runs the read API until a signal.
pub(super) async fn run(config: Config) -> Result<(), Failure> {
    let tokens = Arc::new(Tokens::new(&config.api).map_err(|error| Failure::Config(error.to_string()))?);
    let database = DatabaseEndpoint::from_url(config.database.url.expose()).map_err(anyhow::Error::from)?;
    let timeout = config.database.statement_timeout();
    let reader = Reader::new(database.clone(), config.database.pool_size, timeout);

    let (http_listener, http_address) = process::listen("http.listen", config.http.listen).await?;
    let (api_listener, api_address) = process::listen("api.listen", config.api.listen).await?;
    let metrics = Arc::new(ApiMetrics::new());
    let health = Arc::new(Health::new(metrics.up.clone(), &[Dependency::Database]));
    let shutdown = CancellationToken::new();
    process::stop_on_signals(&shutdown, "stopping, requests in progress are completed")?;
    let health_shutdown = CancellationToken::new();
    tokio::spawn(health::serve(http_listener, metrics.registry(), health.clone(), health_shutdown.clone()));
    // On a connection of its own, so that a busy pool does not count as an unreachable database.
    tokio::spawn(api::watch_database(Reader::new(database, 1, timeout), health.clone()));
    let api = Api::new(&config.api, reader, tokens.clone(), metrics.clone());
    tokio::spawn(api::housekeeping(api.clone(), tokens));
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"), revision = crate::REVISION, api = %api_address, http = %http_address,
        "read API started on {api_address}, metrics and health on {http_address}"
    );

    let router = api::router(&api, &config.api, health);
    let stop_timeout = Duration::from_millis(config.api.request_timeout_ms);
    tokio::select! {
        () = http::serve(api_listener, router, ConnectionLimits::default(), Some(metrics.connections.clone()), shutdown.clone()) => {}
        () = async { shutdown.cancelled().await; tokio::time::sleep(stop_timeout).await } => {
            tracing::warn!("stop timed out, closing the remaining connections");
        }
    }
    health_shutdown.cancel();
    tracing::info!("read API stopped");
    Ok(())
}
