//! One run of retention: deletions with metrics, health and progress.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use indicatif::ProgressBar;
use tokio_util::sync::CancellationToken;

use crate::health::Health;
use crate::metrics::{Dependency, PruneMetrics};
use crate::store::retention::{self, Batch, Done, Held, Observer, Policy, Pruner, RetentionError};
use crate::store::{Hold, StoreFailure};
use crate::terminal::bars;

/// Deletions of one run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Events from before this time.
    pub before: DateTime<Utc>,
    /// Summaries of what ended before this time.
    pub summaries_before: Option<DateTime<Utc>>,
    /// Events also where they are not in the summaries yet.
    pub regardless: bool,
    /// Size and speed.
    pub policy: Policy,
}

/// Result of a run.
#[derive(Clone, Copy, Debug)]
pub struct Pruned {
    /// Deleted events.
    pub events: Done,
    /// Deleted rows of the journal.
    pub journal: u64,
    /// Deleted rows of summaries.
    pub summaries: u64,
    /// Events that are kept because the summaries are behind.
    pub held: Option<Held>,
}

/// A run that ended before its end: the step, and the failure.
#[derive(Debug, thiserror::Error)]
#[error("{step}")]
pub struct RunError {
    step: String,
    /// The failure.
    pub source: StoreFailure,
}

impl From<RetentionError> for RunError {
    fn from(error: RetentionError) -> Self {
        RunError { step: error.to_string(), source: error.source }
    }
}

/// Deletes what the plan says until it is done or `shutdown` is cancelled. `oldest` is the time of the oldest event, for the progress.
///
/// # Errors
/// A failure that a retry does not fix, or one that lasted longer than a minute.
pub async fn run(
    pruner: &mut Pruner,
    plan: Plan,
    oldest: Option<DateTime<Utc>>,
    shutdown: &CancellationToken,
    (metrics, health): (Arc<PruneMetrics>, Arc<Health>),
) -> Result<Pruned, RunError> {
    let step = |step: &str| {
        let step = step.to_owned();
        move |source| RunError { step, source }
    };
    if plan.regardless && pruner.give_up_positions().await.map_err(step("cannot give up positions"))? > 0 {
        tracing::warn!("the summaries begin anew, because events that they do not have are deleted");
    }
    let bar = oldest.map_or_else(ProgressBar::hidden, |oldest| bars::share_bar(seconds(oldest, plan.before)));
    let progress = Progress { metrics, health, bar, oldest };
    let events = retention::run(pruner, plan.policy, shutdown, &progress).await;
    progress.bar.finish_and_clear();
    let events = events?;
    let rest =
        retention::run_journal_and_summaries(pruner, plan.summaries_before, plan.policy, shutdown, &progress);
    let (journal, summaries) =
        rest.await.map_err(step("cannot delete all of the journal and the summaries"))?;
    let held = pruner.held().await.map_err(step("cannot read which events are kept"))?;
    Ok(Pruned { events, journal, summaries, held })
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
        self.bar.set_message(format!("up to {}", up_to.format("%Y-%m-%d %H:%M:%S UTC")));
    }

    fn failed(&self, failure: &StoreFailure, hold: Hold) {
        self.health.lost(Dependency::Database, &failure.to_string());
        self.metrics.retries.with_label_values(&[hold.label()]).inc();
    }
}

fn seconds(from: DateTime<Utc>, to: DateTime<Utc>) -> u64 {
    (to - from).num_seconds().try_into().unwrap_or_default()
}
