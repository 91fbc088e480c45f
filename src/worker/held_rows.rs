//! Rows that cannot be stored at the moment although others can: a task retries them alone, until they are stored or
//! `worker.hold_seconds` has passed. Their lane goes on.

use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Instant;

use super::Shared;
use super::decode::Rows;
use super::fate::Fate;
use super::rows::{RowStore, rejection};
use crate::amqp::Delivery;
use crate::backoff::Backoff;
use crate::dead_letters::DeliveryKey;
use crate::metrics::Dependency;
use crate::store::{FailureClass, StoreFailure};

/// SQLSTATE class of missing tables, columns, functions and privileges, which is held for as long as it lasts.
const OBJECT_CLASS: &str = "42";

/// Rows that wait alone. Dropping it ends its task.
pub(super) struct HeldRows {
    rows: UnboundedSender<HeldRow>,
    ended: UnboundedReceiver<(DeliveryKey, Delivery, Fate)>,
    task: tokio::task::JoinHandle<()>,
    open: usize,
}

/// One row.
struct HeldRow {
    key: DeliveryKey,
    delivery: Delivery,
    failure: StoreFailure,
    held_at: Instant,
    /// Inserts that this process had committed when the row was held.
    committed: u64,
}

impl HeldRows {
    /// Starts the task, which connects when there is a row.
    pub(super) fn start(shared: Shared, store: RowStore) -> Self {
        let (rows, requests) = unbounded_channel();
        let (outcomes, ended) = unbounded_channel();
        let task = Task { shared, store, requests, outcomes, rows: Vec::new() };
        HeldRows { rows, ended, task: tokio::spawn(task.run()), open: 0 }
    }

    /// Hands over a row that failed.
    pub(super) fn hold(
        &mut self,
        key: DeliveryKey,
        delivery: Delivery,
        failure: StoreFailure,
        committed: u64,
    ) {
        let row = HeldRow { key, delivery, failure, held_at: Instant::now(), committed };
        // The task ends only with this value.
        if self.rows.send(row).is_ok() {
            self.open += 1;
        }
    }

    /// Waits for the next row that has its end: stored, duplicate or rejected. Cancel-safe.
    pub(super) async fn next(&mut self) -> (DeliveryKey, Delivery, Fate) {
        match self.ended.recv().await {
            Some(ended) => {
                self.open -= 1;
                ended
            }
            None => std::future::pending().await, // the task has ended, and nothing more comes
        }
    }

    /// Returns the number of rows without an end.
    pub(super) fn open(&self) -> usize {
        self.open
    }
}

impl Drop for HeldRows {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// State of the task.
struct Task {
    shared: Shared,
    store: RowStore,
    requests: UnboundedReceiver<HeldRow>,
    outcomes: UnboundedSender<(DeliveryKey, Delivery, Fate)>,
    rows: Vec<HeldRow>,
}

impl Task {
    async fn run(mut self) {
        let mut backoff = Backoff::default();
        loop {
            if self.rows.is_empty() {
                backoff = Backoff::default();
                match self.requests.recv().await {
                    Some(row) => self.rows.push(row),
                    None => return,
                }
            }
            tokio::time::sleep(backoff.next_delay()).await;
            while let Ok(row) = self.requests.try_recv() {
                self.rows.push(row);
            }
            self.retry().await;
        }
    }

    /// Tries all rows once.
    async fn retry(&mut self) {
        let deliveries: Vec<Delivery> = self.rows.iter().map(|row| row.delivery.clone()).collect();
        let mut fates: Vec<Fate> = deliveries.iter().map(|_| Fate::Pending).collect();
        let mut rows = Rows::decode(&deliveries, &mut fates, &self.shared.rules(), None);
        let tried = self.store.store_once(&mut rows).await;
        if tried.is_err() {
            return; // the database is away: the lane reports it
        }
        let committed = self.store.committed();
        let mut probe = None;
        let mut waiting = Vec::new();
        for (mut row, fate) in std::mem::take(&mut self.rows).into_iter().zip(fates) {
            let fate = match fate {
                Fate::Held(failure) => {
                    row.failure = failure;
                    match self.decide(&row, committed, &mut probe).await {
                        Some(fate) => fate,
                        None => {
                            waiting.push(row);
                            continue;
                        }
                    }
                }
                Fate::Pending => {
                    waiting.push(row);
                    continue;
                }
                fate => fate,
            };
            // Without a receiver the lane is being dropped.
            let _ = self.outcomes.send((row.key, row.delivery, fate));
        }
        self.rows = waiting;
        self.report();
    }

    /// Returns the end of a row that still fails, or `None` where it has to wait.
    async fn decide(
        &mut self,
        row: &HeldRow,
        committed: u64,
        probe: &mut Option<Result<(), StoreFailure>>,
    ) -> Option<Fate> {
        let others_were_stored = committed > row.committed;
        let is_data = matches!(row.failure.class, FailureClass::Data | FailureClass::Unknown);
        let hold = Duration::from_secs(self.shared.config.worker.hold_seconds);
        let expired = row.held_at.elapsed() >= hold;
        if !(is_data && others_were_stored || expired) {
            return None;
        }
        let lasts = row.failure.sqlstate.as_deref().is_some_and(|code| code.starts_with(OBJECT_CLASS));
        if lasts && !others_were_stored {
            if probe.is_none() {
                *probe = Some(self.store.probe().await);
            }
            if matches!(probe, Some(Err(_))) {
                return None; // nothing can be stored, for as long as it lasts
            }
        }
        Some(Fate::Rejected(rejection(row.failure.clone())))
    }

    /// Reports rows that no other row's success explains: a constraint that nothing satisfies, for example.
    fn report(&self) {
        let Some(row) = self.rows.iter().find(|row| self.store.committed() <= row.committed) else { return };
        let text = format!("no row can be stored: {}", row.failure);
        if self.shared.health.lost(Dependency::Database, &text) {
            let hint = "drop the constraint or trigger, or satisfy it; run `cns-events doctor`";
            tracing::warn!(rows = self.rows.len(), error = %row.failure, "no row can be stored, holding them\nhint: {hint}");
        }
    }
}
