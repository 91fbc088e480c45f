//! `cns-events doctor [worker|serve]`: what is right, what is wrong, and the command that mends it. To see whether
//! messages find their way it publishes probes, which workers drop and which it takes back from the dead letters; it changes
//! nothing else.

mod broker;
mod database;

use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Serialize;
use tokio::time::timeout;

use super::{Failure, output};
use crate::api::Keys;
use crate::config::{Config, ConfigError};

/// How long either server may take to answer everything.
const PATIENCE: Duration = Duration::from_secs(20);

const SILENT: &str = "it did not answer everything within 20 s";

#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// Whose configuration, servers and login to look at
    #[arg(value_enum, default_value_t = Patient::Worker)]
    patient: Patient,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Patient {
    /// `cns-events worker`: the broker, and a database that it stores into
    Worker,
    /// `cns-events serve`: its keys, and a database that it reads
    Serve,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Ok,
    Warning,
    Wrong,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
struct Check {
    check: String,
    status: Status,
    /// What was found.
    found: String,
    /// What mends it.
    mend: Option<String>,
}

/// Everything that was looked at, in order.
#[derive(Default)]
struct Report(Vec<Check>);

impl Report {
    fn ok(&mut self, check: &str, found: impl Into<String>) {
        self.push(check, Status::Ok, found.into(), None);
    }

    fn warning(&mut self, check: &str, found: impl Into<String>, mend: impl Into<String>) {
        self.push(check, Status::Warning, found.into(), Some(mend.into()));
    }

    fn wrong(&mut self, check: &str, found: impl Into<String>, mend: impl Into<String>) {
        self.push(check, Status::Wrong, found.into(), Some(mend.into()));
    }

    fn push(&mut self, check: &str, status: Status, found: String, mend: Option<String>) {
        self.0.push(Check { check: check.to_owned(), status, found, mend });
    }
}

impl Doctor {
    pub(super) async fn run(&self, config: Result<Config, ConfigError>) -> Result<(), Failure> {
        let mut report = Report::default();
        match &config {
            Ok(config) => {
                configuration(&mut report, config);
                match self.patient {
                    Patient::Worker => {
                        prefetch(&mut report, config);
                        self.broker(&mut report, config).await;
                    }
                    Patient::Serve => keys(&mut report, config),
                }
                if timeout(PATIENCE, database::check(&mut report, config, self.patient)).await.is_err() {
                    report.wrong(
                        "database",
                        SILENT,
                        "look at the server's log, and at what is between: a firewall, a pooler",
                    );
                }
            }
            Err(ConfigError(problems)) => {
                for problem in problems {
                    report.wrong(
                        "configuration",
                        problem,
                        "set it to what the line says; `cns-events config` shows the keys",
                    );
                }
            }
        }
        self.print(&report)?;
        let wrong = report.0.iter().any(|check| check.status == Status::Wrong);
        if wrong { Err(Failure::Said) } else { Ok(()) }
    }

    async fn broker(&self, report: &mut Report, config: &Config) {
        if timeout(PATIENCE, broker::check(report, config)).await.is_err() {
            let mend = "look at the broker's log, and at what is between: a firewall, a proxy";
            report.wrong("broker", SILENT, mend);
        }
    }

    fn print(&self, report: &Report) -> anyhow::Result<()> {
        if self.json {
            return output::json(&report.0);
        }
        let mut table = output::table(["", "check", "found"]);
        for Check { check, status, found, mend } in &report.0 {
            let found = output::safe(found);
            let found = mend.as_ref().map_or(found.clone(), |mend| format!("{found}\n→ {mend}"));
            table.add_row([output::coloured(word(*status), colour(*status)), check.into(), found.into()]);
        }
        output::line(&table.to_string());
        let count = |status| report.0.iter().filter(|check| check.status == status).count();
        output::line(&format!(
            "{} ok, {} to look at, {} wrong",
            count(Status::Ok),
            count(Status::Warning),
            count(Status::Wrong)
        ));
        Ok(())
    }
}

const fn word(status: Status) -> &'static str {
    match status {
        Status::Ok => "ok",
        Status::Warning => "warning",
        Status::Wrong => "wrong",
    }
}

const fn colour(status: Status) -> comfy_table::Color {
    match status {
        Status::Ok => comfy_table::Color::Green,
        Status::Warning => comfy_table::Color::Yellow,
        Status::Wrong => comfy_table::Color::Red,
    }
}

/// What cannot work is refused when the configuration is read; this is what works and is not good.
fn configuration(report: &mut Report, config: &Config) {
    let changed = config.settings.iter().filter(|setting| setting.origin != "default").count();
    report.ok("configuration", format!("{changed} of {} keys are set", config.settings.len()));
}

/// What tokens are verified with.
fn keys(report: &mut Report, config: &Config) {
    match Keys::load(&config.api) {
        Err(error) => report.wrong("keys", error.to_string(), "set it to what the line says"),
        Ok(_) => report.ok("keys", "tokens can be verified"),
    }
}

fn prefetch(report: &mut Report, config: &Config) {
    let (prefetch, batch) = (usize::from(config.worker.prefetch), config.worker.batch_size);
    if prefetch < 2 * batch {
        report.warning(
            "prefetch",
            format!(
                "{prefetch} messages for batches of {batch}: while one is committed, the next cannot fill"
            ),
            format!("worker.prefetch = {}", 2 * batch),
        );
    } else {
        report.ok("prefetch", format!("{prefetch} messages for batches of {batch}"));
    }
}
