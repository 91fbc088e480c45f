//! The background tasks of the read API.

use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::service::Api;
use super::token::Tokens;
use crate::health::Health;
use crate::metrics::Dependency;
use crate::store::read::{AccessScope, Reader};

/// Interval of the database check: an outage shows on `/readyz` before a load balancer's next probe.
const DATABASE_CHECK_INTERVAL: Duration = Duration::from_secs(2);

/// Interval of housekeeping: a rotated key is accepted within this time.
const HOUSEKEEPING_INTERVAL: Duration = Duration::from_secs(10);

/// Checks the database at intervals: connection, role, privilege and table. Reads as a tenant that has no events.
pub async fn watch_database(reader: Reader, health: Arc<Health>) {
    let no_tenant = AccessScope::tenant(Uuid::nil());
    loop {
        match reader.can_read(&no_tenant).await {
            Ok(()) => {
                if health.reached(Dependency::Database) {
                    tracing::info!("database is readable");
                }
            }
            Err(failure) => {
                if health.lost(Dependency::Database, &failure.to_string()) {
                    let sqlstate = failure.sqlstate.as_deref();
                    tracing::warn!(sqlstate, error = %failure, "cannot read the database: {failure}");
                }
            }
        }
        tokio::time::sleep(DATABASE_CHECK_INTERVAL).await;
    }
}

/// Reloads the keys of `api.jwks_file` at intervals, and drops the state of tenants without a recent request.
pub async fn housekeeping(api: Api, tokens: Arc<Tokens>) {
    let mut logged = String::new();
    loop {
        tokio::time::sleep(HOUSEKEEPING_INTERVAL).await;
        api.drop_unused();
        match tokens.reload() {
            Ok(true) => tracing::info!("reloaded the keys of api.jwks_file"),
            Ok(false) => logged.clear(),
            // The same error is logged once, not at every interval.
            Err(error) if error.to_string() == logged => {}
            Err(error) => {
                logged = error.to_string();
                tracing::warn!(
                    error = logged,
                    "cannot reload the keys, the previous ones stay in use: {logged}"
                );
            }
        }
    }
}
