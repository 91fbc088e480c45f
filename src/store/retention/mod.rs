//! Retention: deletes old events in short transactions, paced and retried, until none is left or the caller stops it.

mod delete;
mod journal;
mod pace;

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use super::failure::{FailureClass, Hold, StoreFailure};
use crate::retry_budget::RetryBudget;

pub use delete::{Batch, Pruner, ROLE, now};
pub use journal::{Held, JOURNAL_DAYS};

/// Time that a database may be away or busy before a run fails: the next run continues from there.
const RETRY_LIMIT: Duration = Duration::from_secs(60);

/// Size and speed of the deletions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Maximum rows of one transaction.
    pub batch_rows: u32,
    /// Maximum rows a second; 0 for no limit.
    pub rate_rows_per_second: u32,
}

/// Result of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Number of deleted events.
    pub deleted: u64,
    /// Number of transactions.
    pub batches: u64,
    /// Duration of the run.
    pub took: Duration,
    /// Set where no old event is left, and not where the caller stopped the run.
    pub complete: bool,
}

/// Receiver of a run's progress, for metrics and a progress bar.
pub trait Observer {
    /// Receives a deleted batch and its duration, or `None` for the answer that no old event is left.
    fn deleted(&self, batch: Option<Batch>, took: Duration);
    /// Receives a failure; the batch is retried unless the run ends with it.
    fn failed(&self, failure: &StoreFailure, hold: Hold);
}

/// A run that ended before its end.
#[derive(Debug, thiserror::Error)]
#[error("{}", deleted_text(*.deleted))]
pub struct RetentionError {
    /// Number of events that were deleted before.
    pub deleted: u64,
    /// The failure.
    pub source: StoreFailure,
}

fn deleted_text(deleted: u64) -> String {
    match deleted {
        0 => "cannot delete any event".to_owned(),
        deleted => format!("cannot delete all events ({deleted} are deleted)"),
    }
}

/// Deletes batch after batch until no old event is left or `shutdown` is cancelled, which lets the current batch end.
///
/// # Errors
/// A failure that a retry does not fix, or one that lasted longer than a minute.
pub async fn run(
    pruner: &mut Pruner,
    policy: Policy,
    shutdown: &CancellationToken,
    observer: &impl Observer,
) -> Result<Done, RetentionError> {
    let started = Instant::now();
    let mut done = Done::default();
    while !shutdown.is_cancelled() {
        let began = Instant::now();
        let batch = retried(shutdown, observer, async || {
            let began = Instant::now();
            let batch = pruner.delete_batch(policy.batch_rows).await?;
            observer.deleted(batch, began.elapsed());
            Ok(batch)
        });
        let batch = batch.await.map_err(|source| RetentionError { deleted: done.deleted, source })?;
        let Some(batch) = batch.flatten() else {
            done.complete = !shutdown.is_cancelled();
            break;
        };
        done.deleted += batch.rows;
        done.batches += 1;
        rest(shutdown, pace::pause(batch.rows, began.elapsed(), policy.rate_rows_per_second)).await;
    }
    done.took = started.elapsed();
    Ok(done)
}

/// Deletes rows of the journal that are old enough, and summaries from before `summaries_before`, batch after batch. Returns their
/// numbers.
///
/// # Errors
/// As [`run`].
pub async fn run_journal_and_summaries(
    pruner: &mut Pruner,
    summaries_before: Option<DateTime<Utc>>,
    policy: Policy,
    shutdown: &CancellationToken,
    observer: &impl Observer,
) -> Result<(u64, u64), StoreFailure> {
    let (mut journal, mut summaries) = (0, 0);
    let mut more = true;
    while more && !shutdown.is_cancelled() {
        let began = Instant::now();
        let deleted = retried(shutdown, observer, async || pruner.delete_journal_batch().await).await?;
        let Some((rows, left)) = deleted else { break };
        (journal, more) = (journal + rows, left);
        rest(shutdown, pace::pause(rows, began.elapsed(), policy.rate_rows_per_second)).await;
    }
    more = summaries_before.is_some();
    while let Some(before) = summaries_before.filter(|_| more && !shutdown.is_cancelled()) {
        let began = Instant::now();
        let deleted =
            retried(shutdown, observer, async || pruner.delete_summaries_batch(before).await).await?;
        let Some((rows, left)) = deleted else { break };
        (summaries, more) = (summaries + rows, left);
        rest(shutdown, pace::pause(rows, began.elapsed(), policy.rate_rows_per_second)).await;
    }
    Ok((journal, summaries))
}

/// Waits, or until the shutdown.
async fn rest(shutdown: &CancellationToken, pause: Duration) {
    tokio::select! {
        () = tokio::time::sleep(pause) => {}
        () = shutdown.cancelled() => {}
    }
}

/// Runs one step, and retries it while the database is away or busy. Returns `None` on shutdown.
async fn retried<T>(
    shutdown: &CancellationToken,
    observer: &impl Observer,
    mut step: impl AsyncFnMut() -> Result<T, StoreFailure>,
) -> Result<Option<T>, StoreFailure> {
    let mut budget = RetryBudget::new(RETRY_LIMIT);
    loop {
        let failure = match step().await {
            Ok(done) => return Ok(Some(done)),
            Err(failure) => failure,
        };
        let FailureClass::Held(hold) = failure.class else { return Err(failure) };
        if !hold.passes() {
            return Err(failure);
        }
        observer.failed(&failure, hold);
        let Some(delay) = budget.next_delay() else { return Err(failure) };
        let reason = hold.label();
        tracing::warn!(reason, sqlstate = failure.sqlstate, error = %failure, "cannot delete a batch, retrying: {failure}");
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            () = shutdown.cancelled() => return Ok(None),
        }
    }
}
