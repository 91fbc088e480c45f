//! Retention: deletes old events in short transactions, paced and retried, until none is left or the caller stops it.

mod delete;
mod pace;

use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::failure::{FailureClass, Hold, StoreFailure};
use crate::retry_budget::RetryBudget;

pub use delete::{Batch, Pruner, ROLE, now};

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
        let batch = retried(pruner, policy.batch_rows, shutdown, observer).await;
        let batch = batch.map_err(|source| RetentionError { deleted: done.deleted, source })?;
        let Some(batch) = batch else {
            done.complete = !shutdown.is_cancelled();
            break;
        };
        done.deleted += batch.rows;
        done.batches += 1;
        tokio::select! {
            () = tokio::time::sleep(pace::pause(batch.rows, began.elapsed(), policy.rate_rows_per_second)) => {}
            () = shutdown.cancelled() => {}
        }
    }
    done.took = started.elapsed();
    Ok(done)
}

/// Deletes one batch, and retries it while the database is away or busy. Returns `None` where no old event is left, or on shutdown.
async fn retried(
    pruner: &mut Pruner,
    max_rows: u32,
    shutdown: &CancellationToken,
    observer: &impl Observer,
) -> Result<Option<Batch>, StoreFailure> {
    let mut budget = RetryBudget::new(RETRY_LIMIT);
    loop {
        let began = Instant::now();
        let failure = match pruner.delete_batch(max_rows).await {
            Ok(batch) => {
                observer.deleted(batch, began.elapsed());
                return Ok(batch);
            }
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
