//! `cns-events prune`

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use chrono::{DateTime, Utc};
use clap::Args;
use indicatif::ProgressBar;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::failure::{Failure, usage};
use super::{age, output, process};
use crate::config::Config;
use crate::counted::counted;
use crate::health::{self, Health};
use crate::metrics::{Dependency, PruneMetrics};
use crate::store::fix::{self, Purpose};
use crate::store::retention::{self, Batch, Done, Observer, Policy, Pruner};
use crate::store::{DatabaseEndpoint, Hold, StoreFailure};
use crate::terminal::bars;

#[derive(Debug, Args)]
pub(super) struct Prune {
    /// Delete events that are older than this (90d, 12weeks, 1y)
    #[arg(long, value_name = "AGE", value_parser = age::parse)]
    older_than: Duration,
    /// Limit the rows of one transaction
    #[arg(long, value_name = "ROWS", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    batch_size: u32,
    /// Limit the rows deleted per second, 0 for no limit; fewer are deleted while the database is busy
    #[arg(long, value_name = "ROWS", default_value_t = 10_000)]
    rate: u32,
    /// Skip the confirmation; required without a terminal
    #[arg(long, short)]
    yes: bool,
    /// Count the events without deleting them
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Prune {
    pub(super) async fn run(&self, config: &Config) -> Result<(), Failure> {
        let timeout = config.database.statement_timeout();
        let database =
            DatabaseEndpoint::from_url(config.database.url.expose()).map_err(anyhow::Error::from)?;
        let before = self.before(&database, timeout).await?;
        let mut pruner = Pruner::new(database, before, timeout);
        if self.dry_run {
            let events =
                pruner.count().await.map_err(|failure| explained("cannot count events", &failure))?;
            if self.json {
                output::json(&json!({ "would_delete": events, "before": before }))?;
            } else {
                output::line(&format!("older than {}: {}", text(before), counted(events, "event")));
            }
            return Ok(());
        }
        let oldest = pruner.oldest().await;
        let oldest = oldest.map_err(|failure| explained("cannot find the oldest event", &failure))?;
        if oldest.is_some() && !self.confirmed(before)? {
            output::note("nothing was deleted");
            return Ok(());
        }
        let metrics = Arc::new(PruneMetrics::new());
        metrics.cutoff.set(before.timestamp());
        let health = Arc::new(Health::new(metrics.up.clone(), &[Dependency::Database]));
        health.reached(Dependency::Database);
        let (shutdown, serving_ends) = (CancellationToken::new(), CancellationToken::new());
        process::stop_on_signals(&shutdown, "stopping after the current batch")?;
        match process::listen("http.listen", config.http.listen).await {
            Ok((listener, _)) => drop(tokio::spawn(health::serve(
                listener,
                metrics.registry(),
                health.clone(),
                serving_ends.clone(),
            ))),
            // A worker on the same host may have the address. Retention matters more than its metrics.
            Err(_) => tracing::warn!(
                listen = %config.http.listen,
                "cannot serve the metrics of this run: the address is in use\nhint: set CNS_EVENTS__HTTP__LISTEN to another address"
            ),
        }
        let bar = oldest.map_or_else(ProgressBar::hidden, |oldest| bars::share_bar(seconds(oldest, before)));
        let progress = Progress { metrics, health, bar, oldest };
        let policy = Policy { batch_rows: self.batch_size, rate_rows_per_second: self.rate };
        let done = retention::run(&mut pruner, policy, &shutdown, &progress).await;
        progress.bar.finish_and_clear();
        serving_ends.cancel();
        self.report(before, &done.map_err(|error| explained(&error.to_string(), &error.source))?)
    }

    /// Returns the moment before which events are deleted, by the database's clock: this machine's may be wrong.
    async fn before(&self, database: &DatabaseEndpoint, timeout: Duration) -> anyhow::Result<DateTime<Utc>> {
        let now = retention::now(database, timeout).await;
        let now = now.map_err(|failure| explained("cannot read the database's clock", &failure))?;
        let age = chrono::Duration::from_std(self.older_than).ok();
        let before = age.and_then(|age| now.checked_sub_signed(age));
        Ok(before
            .unwrap_or_else(|| usage("--older-than: reaches back further than dates can be represented")))
    }

    fn confirmed(&self, before: DateTime<Utc>) -> anyhow::Result<bool> {
        if self.yes {
            return Ok(true);
        }
        if !std::io::stdin().is_terminal() {
            usage("without a terminal to confirm on, --yes is required to delete events");
        }
        Ok(output::confirmed(&format!("Delete all events older than {} permanently?", text(before)))?)
    }

    fn report(&self, before: DateTime<Utc>, done: &Done) -> Result<(), Failure> {
        let Done { deleted, batches, took, complete } = *done;
        let took = took.as_secs_f64();
        if self.json {
            output::json(&json!({
                "deleted": deleted, "before": before, "batches": batches, "seconds": took, "complete": complete,
            }))?;
        } else {
            output::line(&format!(
                "deleted {} older than {} in {took:.1} s",
                counted(deleted, "event"),
                text(before)
            ));
        }
        if complete {
            return Ok(());
        }
        Err(anyhow!("stopped before the end\nhint: run the same command again to continue").into())
    }
}

/// Progress of a run: its metrics, its health and a bar.
struct Progress {
    metrics: Arc<PruneMetrics>,
    health: Arc<Health>,
    bar: ProgressBar,
    oldest: Option<DateTime<Utc>>,
}

impl Observer for Progress {
    fn deleted(&self, batch: Option<Batch>, took: Duration) {
        self.health.reached(Dependency::Database);
        let Some(Batch { rows, up_to }) = batch else { return };
        self.metrics.deleted(rows, up_to.timestamp(), took);
        // The share of time, because counting the remaining events would read all of them.
        self.bar.set_position(self.oldest.map_or(0, |oldest| seconds(oldest, up_to)));
        self.bar.set_message(format!("up to {}", text(up_to)));
    }

    fn failed(&self, failure: &StoreFailure, hold: Hold) {
        self.health.lost(Dependency::Database, &failure.to_string());
        self.metrics.retries.with_label_values(&[hold.label()]).inc();
    }
}

fn explained(what: &str, failure: &StoreFailure) -> anyhow::Error {
    anyhow!("{what}: {}", fix::explained(failure, Purpose::Prune))
}

fn text(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

fn seconds(from: DateTime<Utc>, to: DateTime<Utc>) -> u64 {
    (to - from).num_seconds().try_into().unwrap_or_default()
}
