//! Checks of a service's configuration, broker and database: each with its result and the fix for what is wrong.
//!
//! To check that messages are routed, it publishes probes. Workers drop them, and it takes its own probe back from the dead-letter
//! queue. It changes nothing else.

mod broker;
mod configuration;
mod database;
mod journal;
mod report;
mod rights;
mod service;

use std::time::Duration;

use tokio::time::timeout;

use crate::config::{Config, ConfigError};

pub use report::{Check, Report, Status};
pub use service::Service;

/// Timeout of all checks of one server.
const SERVER_TIMEOUT: Duration = Duration::from_secs(20);

/// Result of a check that ended by [`SERVER_TIMEOUT`].
const SILENT: &str = "no answer to every check within 20 s";

/// Runs the checks of a service.
pub async fn run(config: &Result<Config, ConfigError>, service: Service) -> Report {
    let mut report = Report::default();
    let config = match config {
        Ok(config) => config,
        Err(ConfigError { problems, .. }) => {
            for problem in problems {
                let fix = "set the key as the line says; `cns-events config` lists the keys";
                report.wrong("configuration", problem, fix);
            }
            return report;
        }
    };
    configuration::check(&mut report, config, service);
    if service == Service::Worker
        && timeout(SERVER_TIMEOUT, broker::check(&mut report, config)).await.is_err()
    {
        let fix = "check the broker's log, and firewalls and proxies on the way to it";
        report.wrong("broker", SILENT, fix);
    }
    if timeout(SERVER_TIMEOUT, database::check(&mut report, config, service)).await.is_err() {
        let fix = "check the server's log, and firewalls and poolers on the way to it";
        report.wrong("database", SILENT, fix);
    }
    report
}
