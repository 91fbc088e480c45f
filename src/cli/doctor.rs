//! `cns-events doctor [worker|serve]`

use clap::Args;

use super::failure::Failure;
use crate::config::{Config, ConfigError};
use crate::doctor::{self, Service, Status};
use crate::terminal::{checks, output};

#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// Check the configuration, servers and login of this service
    #[arg(value_enum, default_value_t = Service::Worker)]
    service: Service,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Doctor {
    pub(super) async fn run(&self, config: Result<Config, ConfigError>) -> Result<(), Failure> {
        let report = doctor::run(&config, self.service).await;
        if self.json {
            output::json(&report.checks)?;
        } else {
            output::line(&checks::report(&report));
        }
        if report.count(Status::Wrong) > 0 { Err(Failure::Reported) } else { Ok(()) }
    }
}
