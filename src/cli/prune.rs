//! `cns-events prune`: retention.

use std::io::IsTerminal;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use chrono::{DateTime, Utc};
use clap::Args;
use indicatif::ProgressBar;
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::{Failure, output, process};
use crate::config::Config;
use crate::health::{self, Health};
use crate::metrics::{Dependency, PruneMetrics};
use crate::retry_budget::RetryBudget;
use crate::store::prune::{Pruned, Pruner, ROLE};
use crate::store::{DatabaseEndpoint, Failure as StoreFailure, FailureClass, Hold};

/// How long a database may be away, or busy, before this gives up.
const PATIENCE: Duration = Duration::from_secs(60);

/// A batch that takes longer has waited for a database that was away.
const LONGEST_BATCH: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub(super) struct Prune {
    /// Events created longer ago than this go (90d, 12weeks, 1y)
    #[arg(long, value_name = "AGE", value_parser = humantime::parse_duration)]
    older_than: Duration,
    /// Rows of one transaction at most
    #[arg(long, value_name = "ROWS", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    batch_size: u32,
    /// Rows a second at most, and fewer where the database is busy, so that workers keep their speed; 0 for as many as can be
    #[arg(long, value_name = "ROWS", default_value_t = 10_000)]
    rate: u32,
    /// Do not ask (only a terminal is asked)
    #[arg(long, short)]
    yes: bool,
    /// Only say how many would go
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// How it ended.
struct Done {
    before: DateTime<Utc>,
    deleted: u64,
    batches: u64,
    took: Duration,
    /// Nothing that is old enough is left.
    complete: bool,
}

impl Prune {
    pub(super) async fn run(&self, config: &Config) -> Result<(), Failure> {
        let age = chrono::Duration::from_std(self.older_than).ok();
        let Some(before) = age.and_then(|age| Utc::now().checked_sub_signed(age)) else {
            super::usage("--older-than: is further back than time goes");
        };
        let database =
            DatabaseEndpoint::from_url(config.database.url.expose()).map_err(anyhow::Error::from)?;
        let mut pruner = Pruner::new(database, before, config.database.statement_timeout());
        if self.dry_run {
            let events = pruner.count().await.map_err(|failure| explained(&failure))?;
            if self.json {
                output::json(&json!({ "would_delete": events, "before": before }))?;
            } else {
                output::line(&format!("{events} events are older than {}", moment(before)));
            }
            return Ok(());
        }
        let oldest = pruner.oldest().await.map_err(|failure| explained(&failure))?;
        if oldest.is_some() && !self.sure(before)? {
            output::note("nothing was deleted");
            return Ok(());
        }
        let metrics = Arc::new(PruneMetrics::new());
        metrics.cutoff.set(before.timestamp());
        let health = Arc::new(Health::new(metrics.up.clone(), &[Dependency::Database]));
        health.reached(Dependency::Database);
        let shutdown = CancellationToken::new();
        process::stop_on_signals(&shutdown, "stopping: the batch in hand is deleted")?;
        let serving_ends = CancellationToken::new();
        match process::listen("http.listen", config.http.listen).await {
            Ok((listener, _)) => drop(tokio::spawn(health::serve(
                listener,
                metrics.registry(),
                health.clone(),
                serving_ends.clone(),
            ))),
            // A worker may have the address; what this does matters more than what it tells.
            Err(_) => tracing::warn!(
                listen = %config.http.listen,
                "the metrics of this run are not served: the address is taken; set CNS_EVENTS__HTTP__LISTEN to another"
            ),
        }
        let bar = oldest.map_or_else(ProgressBar::hidden, |oldest| bar(oldest, before));
        let run = Run { metrics, health, bar, oldest, shutdown };
        let done = self.delete(&mut pruner, before, &run).await;
        run.bar.finish_and_clear();
        serving_ends.cancel();
        self.report(&done?)
    }

    /// Batch after batch, until none is left or somebody asks to stop.
    async fn delete(&self, pruner: &mut Pruner, before: DateTime<Utc>, run: &Run) -> anyhow::Result<Done> {
        let started = Instant::now();
        let mut done = Done { before, deleted: 0, batches: 0, took: Duration::ZERO, complete: false };
        while !run.shutdown.is_cancelled() {
            let began = Instant::now();
            let batch = run.batch(pruner, self.batch_size).await.with_context(|| match done.deleted {
                0 => "nothing was deleted".to_owned(),
                deleted => format!("{deleted} events are deleted, and the rest is not"),
            })?;
            let Some(batch) = batch else {
                done.complete = !run.shutdown.is_cancelled();
                break;
            };
            done.deleted += batch.rows;
            done.batches += 1;
            run.tell(batch);
            tokio::select! {
                () = tokio::time::sleep(self.rest(batch.rows, began.elapsed())) => {}
                () = run.shutdown.cancelled() => {}
            }
        }
        done.took = started.elapsed();
        Ok(done)
    }

    /// How long to leave the database to others after a batch: what the rate asks for, and at least half as long as the batch
    /// took, because it takes longer where the database is busy.
    fn rest(&self, rows: u64, took: Duration) -> Duration {
        if self.rate == 0 {
            return Duration::ZERO;
        }
        let due = Duration::from_secs_f64(rows as f64 / f64::from(self.rate));
        due.saturating_sub(took).max(took.min(LONGEST_BATCH) / 2)
    }

    fn report(&self, done: &Done) -> Result<(), Failure> {
        let Done { before, deleted, batches, took, complete } = *done;
        if self.json {
            output::json(&json!({
                "deleted": deleted, "before": before, "batches": batches, "seconds": took.as_secs_f64(), "complete": complete,
            }))?;
        } else {
            let seconds = took.as_secs_f64();
            output::line(&format!(
                "deleted {deleted} events older than {} in {seconds:.1} s",
                moment(before)
            ));
        }
        if complete {
            return Ok(());
        }
        Err(anyhow::anyhow!("stopped before the end: the same command goes on from there").into())
    }

    fn sure(&self, before: DateTime<Utc>) -> anyhow::Result<bool> {
        if self.yes || !std::io::stdin().is_terminal() {
            return Ok(true);
        }
        Ok(output::confirmed(&format!("Delete every event older than {} for good?", moment(before)))?)
    }
}

/// What goes with a run.
struct Run {
    metrics: Arc<PruneMetrics>,
    health: Arc<Health>,
    bar: ProgressBar,
    oldest: Option<DateTime<Utc>>,
    shutdown: CancellationToken,
}

impl Run {
    /// The next batch, tried again while the database is away or in somebody's way. None also where somebody asked to stop.
    async fn batch(&self, pruner: &mut Pruner, most: u32) -> anyhow::Result<Option<Pruned>> {
        let mut budget = RetryBudget::new(PATIENCE);
        loop {
            let timer = Instant::now();
            let failure = match pruner.batch(most).await {
                Ok(batch) => {
                    self.health.reached(Dependency::Database);
                    if batch.is_some() {
                        self.metrics.batch_seconds.observe(timer.elapsed().as_secs_f64());
                    }
                    return Ok(batch);
                }
                Err(failure) => failure,
            };
            let reason = match failure.class {
                FailureClass::Held(Hold::Operator) | FailureClass::Data | FailureClass::Unknown => {
                    bail!(explained(&failure))
                }
                FailureClass::Held(hold) => hold.label(),
            };
            self.health.lost(Dependency::Database, &failure.to_string());
            self.metrics.retries.with_label_values(&[reason]).inc();
            let Some(pause) = budget.next_delay() else { bail!(explained(&failure)) };
            tracing::warn!(reason, sqlstate = failure.sqlstate, "a batch is tried again: {failure}");
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.shutdown.cancelled() => return Ok(None),
            }
        }
    }

    fn tell(&self, batch: Pruned) {
        self.metrics.pruned.inc_by(batch.rows);
        self.metrics.reached.set(batch.up_to.timestamp());
        if let Some(oldest) = self.oldest {
            self.bar.set_position((batch.up_to - oldest).num_seconds().try_into().unwrap_or_default());
        }
        self.bar.set_message(format!("up to {}", moment(batch.up_to)));
    }
}

/// What stands in the way, and what mends it.
fn explained(failure: &StoreFailure) -> anyhow::Error {
    let mend = match failure.sqlstate.as_deref() {
        Some("42501") => format!(": grant {ROLE} to the login of database.url"),
        // The role, or the table.
        Some("22023" | "42704" | "42P01") => ": cns-events migrate makes the table and the role".to_owned(),
        _ => String::new(),
    };
    anyhow::anyhow!("{failure}{mend}")
}

fn moment(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}

/// How far in time: how many are left nobody has counted.
fn bar(oldest: DateTime<Utc>, before: DateTime<Utc>) -> ProgressBar {
    output::share_bar((before - oldest).num_seconds().try_into().unwrap_or_default())
}
