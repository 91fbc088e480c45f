//! Rows that cannot be stored at the moment although others can: a task retries them alone, until they are stored or
//! `worker.hold_seconds` has passed. Their lane goes on.

use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::time::Instant;

use super::Shared;
use super::decode::Rows;
use super::fate::Fate;
use super::judge::{AloneDecision, judge_alone};
use super::rows::{RowStore, rejection};
use crate::amqp::Delivery;
use crate::backoff::Backoff;
use crate::dead_letters::DeliveryKey;
use crate::metrics::Dependency;
use crate::store::StoreFailure;

/// Rows that wait alone. Dropping it ends its task.
pub(super) struct HeldRows {
    rows: UnboundedSender<HeldRow>,
    ended: UnboundedReceiver<(DeliveryKey, Delivery, Fate)>,
    task: tokio::task::JoinHandle<()>,
    open: usize,
    shared: Shared,
}

/// One row.
struct HeldRow {
    key: DeliveryKey,
    delivery: Delivery,
    failure: StoreFailure,
    held_at: Instant,
    /// Inserts that this process had committed when the row failed last.
    committed: u64,
    /// Set where other rows were stored between its last failure and the one before.
    others_were_stored: bool,
}

impl HeldRows {
    /// Starts the task, which connects when there is a row.
    pub(super) fn start(shared: Shared, store: RowStore) -> Self {
        let (rows, requests) = unbounded_channel();
        let (outcomes, ended) = unbounded_channel();
        let task = Task { shared: shared.clone(), store, requests, outcomes, rows: Vec::new() };
        HeldRows { rows, ended, task: tokio::spawn(task.run()), open: 0, shared }
    }

    /// Hands over a row that failed.
    pub(super) fn hold(&mut self, key: DeliveryKey, delivery: Delivery, failure: StoreFailure) {
        let committed = self.shared.committed();
        let row =
            HeldRow { key, delivery, failure, held_at: Instant::now(), committed, others_were_stored: false };
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
        // Where the database is away, the rest stays pending, and the lane reports it.
        let _ = self.store.store_once(&mut rows).await;
        let mut failed = Vec::new();
        for (row, fate) in std::mem::take(&mut self.rows).into_iter().zip(fates) {
            match fate {
                Fate::Held(failure) => failed.push(HeldRow { failure, ..row }),
                Fate::Pending => self.rows.push(row),
                fate => self.end(row, fate),
            }
        }
        self.decide(failed).await;
    }

    /// Decides about rows that failed again. Without another row that was stored since, a probe shows whether any can be.
    async fn decide(&mut self, failed: Vec<HeldRow>) {
        let hold = Duration::from_secs(self.shared.config.worker.hold_seconds);
        let committed = self.shared.committed();
        let mut probe = None;
        for mut row in failed {
            let mut others_stored = committed > row.committed;
            if !others_stored {
                if probe.is_none() {
                    probe = Some(self.probe(&row.failure).await);
                }
                others_stored = matches!(probe, Some(Ok(())));
            }
            let rows_are_stored = others_stored && row.others_were_stored;
            (row.committed, row.others_were_stored) = (committed, others_stored);
            let expired = row.held_at.elapsed() >= hold;
            match judge_alone(&row.failure, expired, rows_are_stored, probe.as_ref()) {
                AloneDecision::Wait => self.rows.push(row),
                AloneDecision::Reject => {
                    let rejection = rejection(row.failure.clone());
                    self.end(row, Fate::Rejected(rejection));
                }
            }
        }
    }

    /// Checks whether any row can be stored, and reports it where none can: a constraint that nothing satisfies, for example.
    async fn probe(&mut self, failure: &StoreFailure) -> Result<(), StoreFailure> {
        let probe = self.store.probe().await;
        if probe.is_ok() {
            self.store.database_answered();
        } else if self.shared.health.lost(Dependency::Database, &format!("no row can be stored: {failure}")) {
            let hint = "drop the constraint or trigger, or satisfy it; run `cns-events doctor`";
            tracing::warn!(rows = self.rows.len() + 1, error = %failure, "no row can be stored, holding them\nhint: {hint}");
        }
        probe
    }

    fn end(&self, row: HeldRow, fate: Fate) {
        // Without a receiver the lane is being dropped.
        let _ = self.outcomes.send((row.key, row.delivery, fate));
    }
}
