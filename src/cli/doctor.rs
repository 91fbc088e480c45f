//! `cns-events doctor [worker|serve]`

use clap::Args;
use comfy_table::Color;

use super::failure::Failure;
use super::output;
use crate::config::{Config, ConfigError};
use crate::counted::counted;
use crate::doctor::{self, Check, Report, Service, Status};

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
            print(&report);
        }
        if report.count(Status::Wrong) > 0 { Err(Failure::Reported) } else { Ok(()) }
    }
}

fn print(report: &Report) {
    let mut table = output::prose_table(["", "check", "found"]);
    for Check { check, status, found, fix } in &report.checks {
        let found = output::safe_lines(found);
        let found = fix.as_ref().map_or(found.clone(), |fix| format!("{found}\n→ {fix}"));
        let (word, color) = match status {
            Status::Ok => ("ok", Color::Green),
            Status::Warning => ("warning", Color::Yellow),
            Status::Wrong => ("wrong", Color::Red),
        };
        table.add_row([output::colored(word, color), check.into(), found.into()]);
    }
    output::line(&table.to_string());
    let [ok, warnings, wrong] =
        [Status::Ok, Status::Warning, Status::Wrong].map(|status| report.count(status));
    output::line(&format!("{ok} ok, {}, {wrong} wrong", counted(warnings, "warning")));
}
