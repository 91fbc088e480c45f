//! `cns-events aggregate`

use std::sync::Arc;

use anyhow::anyhow;
use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::failure::Failure;
use super::{output, process};
use crate::config::Config;
use crate::counted::counted;
use crate::health::{self, Health};
use crate::metrics::{AggregateMetrics, Dependency};
use crate::store::fix::{self, Purpose};
use crate::store::summaries::{Aggregator, Verified};
use crate::store::{DatabaseEndpoint, StoreFailure};
use crate::summaries::{NamedTypes, Task};
use crate::terminal::bars;

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
        let mut aggregator = aggregator(&config)?;
        match &self.step {
            Some(Step::Verify { json }) => verify(&mut aggregator, *json).await,
            Some(Step::Rebuild { from, json }) => rebuild(&mut aggregator, *from, *json).await,
            None if self.once => once(&mut aggregator, self.json).await,
            None => serve(config, aggregator).await,
        }
    }

    /// Returns whether it runs until it is stopped.
    pub(super) fn is_service(&self) -> bool {
        self.step.is_none() && !self.once
    }
}

/// Returns the writer of the summaries for this configuration.
pub(super) fn aggregator(config: &Config) -> anyhow::Result<Aggregator> {
    let database = DatabaseEndpoint::from_url(config.database.url.expose())?;
    let named = NamedTypes::from_list(&config.aggregate.types);
    Ok(Aggregator::new(database, config.database.statement_timeout(), named))
}

async fn serve(config: Config, aggregator: Aggregator) -> Result<(), Failure> {
    let (listener, listen) = process::listen("http.listen", config.http.listen).await?;
    let metrics = Arc::new(AggregateMetrics::new());
    let health = Arc::new(Health::new(metrics.up(), &[Dependency::Database]));
    let shutdown = CancellationToken::new();
    process::stop_on_signals(&shutdown, "stopping after the current round")?;
    let health_shutdown = CancellationToken::new();
    tokio::spawn(health::serve(listener, metrics.registry(), health.clone(), health_shutdown.clone()));
    tracing::info!(version = env!("CARGO_PKG_VERSION"), revision = crate::REVISION, http = %listen, "aggregate started, metrics and health on {listen}");
    Task::new(aggregator, metrics, health, shutdown).run().await;
    health_shutdown.cancel();
    tracing::info!("aggregate stopped");
    Ok(())
}

async fn once(aggregator: &mut Aggregator, json: bool) -> Result<(), Failure> {
    let events = aggregator.catch_up().await;
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
        report(&verified);
    }
    if verified.different == 0 { Ok(()) } else { Err(Failure::Reported) }
}

fn report(verified: &Verified) {
    for difference in &verified.differences {
        output::line(&output::safe(&difference.to_string()));
    }
    let more = verified.different.saturating_sub(verified.differences.len() as u64);
    if more > 0 {
        output::line(&format!("and {more} more"));
    }
    let since = verified
        .from
        .map_or_else(String::new, |from| format!(" since {}", from.format("%Y-%m-%d %H:%M:%S UTC")));
    output::line(&format!(
        "{} in {} of {}{since}: {}",
        counted(verified.events, "event"),
        counted(verified.summaries, "summary").replace("summarys", "summaries"),
        counted(verified.tenants, "tenant"),
        counted(verified.different, "difference"),
    ));
    if verified.different > 0 {
        output::note("hint: run `cns-events aggregate rebuild`");
    }
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
