//! `cns-events prune`

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

use anyhow::anyhow;
use chrono::{DateTime, Utc};
use clap::Args;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::age;
use super::failure::{Failure, usage};
use crate::config::Config;
use crate::counted::counted;
use crate::health::{self, Health};
use crate::metrics::{Dependency, PruneMetrics};
use crate::retention::{self, Plan, Pruned};
use crate::service::{listen, stop_on_signals};
use crate::store::StoreFailure;
use crate::store::fix::{self, Purpose};
use crate::store::retention::{Done, Policy, Pruner, now};
use crate::terminal::output;

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
    /// Delete summaries of what ended before this, which are kept otherwise; at least --older-than
    #[arg(long, value_name = "AGE", value_parser = age::parse)]
    summaries_older_than: Option<Duration>,
    /// Delete events also where they are not in the summaries yet: these begin anew then
    #[arg(long)]
    regardless: bool,
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
        if self.summaries_older_than.is_some_and(|age| age < self.older_than) {
            usage("--summaries-older-than: has to be at least --older-than: summaries outlive their events");
        }
        let timeout = config.database.statement_timeout();
        let database = config.database.endpoint().map_err(anyhow::Error::from)?;
        let now = now(&database, timeout).await;
        let now = now.map_err(|failure| explained("cannot read the database's clock", &failure))?;
        let before = ago(now, self.older_than, "--older-than");
        let summaries_before = self.summaries_older_than.map(|age| ago(now, age, "--summaries-older-than"));
        let mut pruner = Pruner::new(database, before, timeout);
        if self.regardless {
            pruner = pruner.regardless();
        }
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
        stop_on_signals(&shutdown, "stopping after the current batch")?;
        match listen("http.listen", &config.http.listen).await {
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
        let plan = Plan {
            before,
            summaries_before,
            regardless: self.regardless,
            policy: Policy { batch_rows: self.batch_size, rate_rows_per_second: self.rate },
        };
        let pruned = retention::run(&mut pruner, plan, oldest, &shutdown, (metrics, health)).await;
        serving_ends.cancel();
        self.report(before, &pruned.map_err(|error| explained(&error.to_string(), &error.source))?)
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

    fn report(
        &self,
        before: DateTime<Utc>,
        &Pruned { events: Done { deleted, batches, took, complete }, journal, summaries, held }: &Pruned,
    ) -> Result<(), Failure> {
        let took = took.as_secs_f64();
        if self.json {
            output::json(&json!({
                "deleted": deleted, "before": before, "batches": batches, "seconds": took, "complete": complete,
                "journal_rows": journal, "summaries": summaries, "held_from": held.map(|held| held.from),
            }))?;
        } else {
            output::line(&format!(
                "deleted {} older than {} in {took:.1} s",
                counted(deleted, "event"),
                text(before)
            ));
            if journal + summaries > 0 {
                output::line(&format!(
                    "deleted {} of the journal and {} of summaries",
                    counted(journal, "row"),
                    counted(summaries, "row")
                ));
            }
        }
        if !complete {
            return Err(
                anyhow!("stopped before the end\nhint: run the same command again to continue").into()
            );
        }
        match held {
            Some(held) if held.lasts() => {
                let as_of = held.as_of.map_or_else(|| "no time".to_owned(), text);
                Err(anyhow!(
                    "older events are kept, because they are not in the summaries: these are complete up to {as_of}\n\
                     hint: run `cns-events aggregate`; or delete them nevertheless by --regardless, and the summaries begin anew"
                )
                .into())
            }
            _ => Ok(()),
        }
    }
}

/// Returns the moment of an age, by the database's clock: this machine's may be wrong.
fn ago(now: DateTime<Utc>, age: Duration, flag: &str) -> DateTime<Utc> {
    let age = chrono::Duration::from_std(age).ok();
    age.and_then(|age| now.checked_sub_signed(age))
        .unwrap_or_else(|| usage(format!("{flag}: reaches back further than dates can be represented")))
}

fn explained(what: &str, failure: &StoreFailure) -> anyhow::Error {
    anyhow!("{what}: {}", fix::explained(failure, Purpose::Prune))
}

fn text(time: DateTime<Utc>) -> String {
    time.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}
