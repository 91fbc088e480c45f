//! `cns-events aggregate`

use anyhow::anyhow;
use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use serde_json::json;

use super::failure::Failure;
use crate::config::Config;
use crate::counted::counted;
use crate::service;
use crate::store::StoreFailure;
use crate::store::fix::{self, Purpose};
use crate::store::summaries::Aggregator;
use crate::summaries::Task;
use crate::terminal::{bars, output};

#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "Runs until SIGTERM or Ctrl-C. Any number may run: one at a time is at work. Its login has to be a member of \
    cns_events_aggregate."
)]
pub(super) struct Aggregate {
    #[command(subcommand)]
    step: Option<Step>,
    /// Take in what is stored now, and end
    #[arg(long)]
    once: bool,
    /// Print JSON (with --once)
    #[arg(long, requires = "once")]
    json: bool,
}

#[derive(Debug, Subcommand)]
enum Step {
    /// Compare the summaries with the events; exit code 1 if they differ
    Verify {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Make the summaries anew from the events
    Rebuild {
        /// Rebuild only from the hour of this time on (RFC 3339)
        #[arg(long, value_name = "TIME")]
        from: Option<DateTime<Utc>>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

impl Aggregate {
    pub(super) async fn run(&self, config: Config) -> Result<(), Failure> {
        let Some(step) = &self.step else {
            return if self.once {
                once(&config, self.json).await
            } else {
                Ok(service::aggregate(config).await?)
            };
        };
        let mut aggregator = Task::aggregator(&config)?;
        match step {
            Step::Verify { json } => verify(&mut aggregator, *json).await,
            Step::Rebuild { from, json } => rebuild(&mut aggregator, *from, *json).await,
        }
    }

    /// Returns whether it runs until it is stopped.
    pub(super) fn is_service(&self) -> bool {
        self.step.is_none() && !self.once
    }
}

async fn once(config: &Config, json: bool) -> Result<(), Failure> {
    let events = Task::aggregator(config)?.catch_up().await;
    let events = events.map_err(|failure| explained("cannot keep the summaries", &failure))?;
    if json {
        output::json(&json!({ "events": events }))?;
    } else {
        output::line(&format!("took in {}", counted(events, "event")));
    }
    Ok(())
}

async fn verify(aggregator: &mut Aggregator, json: bool) -> Result<(), Failure> {
    let bar = bars::counter("events");
    let verified = aggregator.verify(|events| bar.set_position(events)).await;
    bar.finish_and_clear();
    let verified = verified.map_err(|failure| explained("cannot verify the summaries", &failure))?;
    if json {
        output::json(&verified)?;
    } else {
        verified.lines().iter().for_each(|line| output::line(&output::safe(line)));
    }
    if verified.different > 0 {
        output::note("hint: run `cns-events aggregate rebuild`");
    }
    if verified.different == 0 { Ok(()) } else { Err(Failure::Reported) }
}

async fn rebuild(
    aggregator: &mut Aggregator,
    from: Option<DateTime<Utc>>,
    json: bool,
) -> Result<(), Failure> {
    let bar = bars::counter("events");
    let filled = aggregator.fill(None, from, |events| bar.set_position(events)).await;
    bar.finish_and_clear();
    let filled = filled.map_err(|failure| explained("cannot rebuild the summaries", &failure))?;
    if json {
        output::json(&json!({ "events": filled.events, "from": filled.from }))?;
    } else {
        let from = filled
            .from
            .map_or_else(String::new, |from| format!(" since {}", from.format("%Y-%m-%d %H:%M:%S UTC")));
        output::line(&format!("rebuilt from {}{from}", counted(filled.events, "event")));
    }
    if from.is_some() && filled.from > from {
        output::note("events of before are deleted: their summaries stay as they are");
    }
    Ok(())
}

fn explained(what: &str, failure: &StoreFailure) -> anyhow::Error {
    anyhow!("{what}: {}", fix::explained(failure, Purpose::Aggregate))
}
