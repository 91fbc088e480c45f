//! `cns-events serve`

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Failure, process};
use crate::api::{self, Api, Keys, Tokens};
use crate::config::Config;
use crate::health::{self, Health};
use crate::http::{self, ConnectionLimits};
use crate::metrics::{ApiMetrics, Dependency};
use crate::store::DatabaseEndpoint;
use crate::store::read::{AccessScope, Reader};

/// How often the database is asked whether it can be read.
const DATABASE_CHECK: Duration = Duration::from_secs(2);

/// How often the JWKS file is looked at, and tenants that were here once are forgotten.
const HOUSEKEEPING: Duration = Duration::from_secs(10);

pub(super) async fn run(config: Config) -> Result<(), Failure> {
    let tokens = Arc::new(Tokens::new(&config.api).map_err(|error| Failure::Config(error.to_string()))?);
    if Keys::weak_secret(&config.api) {
        tracing::warn!(
            "api.jwt_secret is shorter than 32 bytes: it could be guessed from any token; take a longer one"
        );
    }
    let database = DatabaseEndpoint::from_url(config.database.url.expose()).map_err(anyhow::Error::from)?;
    let timeout = config.database.statement_timeout();
    let reader = Reader::new(database.clone(), config.database.pool_size, timeout);

    let (inner, metrics_at) = process::listen("http.listen", config.http.listen).await?;
    let (outer, listen) = process::listen("api.listen", config.api.listen).await?;
    let metrics = Arc::new(ApiMetrics::new());
    let health = Arc::new(Health::new(metrics.up.clone(), &[Dependency::Database]));
    let shutdown = CancellationToken::new();
    process::stop_on_signals(&shutdown, "stopping: the requests in hand are answered")?;
    let serving_ends = CancellationToken::new();
    tokio::spawn(health::serve(inner, metrics.registry(), health.clone(), serving_ends.clone()));
    // On a connection of its own, so that a pool that is busy is not taken for a database that is away.
    tokio::spawn(watch(Reader::new(database, 1, timeout), health.clone()));
    let api = Api::new(&config.api, reader, tokens.clone(), metrics.clone());
    tokio::spawn(keep_house(api.clone(), tokens));
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"), revision = crate::REVISION, api = %listen, http = %metrics_at,
        "the read API starts"
    );

    let router = api::router(&api, &config.api, health);
    let patience = Duration::from_millis(config.api.request_timeout_ms);
    tokio::select! {
        () = http::serve(outer, router, ConnectionLimits::default(), Some(metrics.connections.clone()), shutdown.clone()) => {}
        () = async { shutdown.cancelled().await; tokio::time::sleep(patience).await } => {
            tracing::warn!("the stop took too long: some connections are cut");
        }
    }
    serving_ends.cancel();
    tracing::info!("the read API stopped");
    Ok(())
}

/// Reads as nobody, again and again: it takes the connection, the role, the privilege and the table.
async fn watch(reader: Reader, health: Arc<Health>) {
    let nobody = AccessScope::tenant(uuid::Uuid::nil());
    loop {
        match reader.can_read(&nobody).await {
            Ok(()) => {
                if health.reached(Dependency::Database) {
                    tracing::info!("the database can be read");
                }
            }
            Err(failure) => {
                if health.lost(Dependency::Database, &failure.to_string()) {
                    tracing::warn!(sqlstate = failure.sqlstate, "the database cannot be read: {failure}");
                }
            }
        }
        tokio::time::sleep(DATABASE_CHECK).await;
    }
}

async fn keep_house(api: Api, tokens: Arc<Tokens>) {
    let mut told = String::new();
    loop {
        tokio::time::sleep(HOUSEKEEPING).await;
        api.drop_unused();
        match tokens.reload() {
            Ok(true) => tracing::info!("the keys of api.jwks_file are new"),
            Ok(false) => told.clear(),
            // Once, and not every ten seconds.
            Err(error) if error.to_string() == told => {}
            Err(error) => {
                told = error.to_string();
                tracing::warn!("{told}; the keys stay as they were");
            }
        }
    }
}
