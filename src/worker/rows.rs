//! Storing the rows of a batch: what can be stored is, and the rows that the database never takes are found.

use std::ops::Range;
use std::time::{Duration, Instant};

use chrono::Utc;

use super::Shared;
use super::bisect::{Bisect, Verdict};
use super::decode::Rows;
use super::fate::Fate;
use super::session::{HoldExpired, Session, Stop};
use crate::backoff::Backoff;
use crate::event::{Reason, Rejection};
use crate::metrics::Dependency;
use crate::retry_budget::RetryBudget;
use crate::store::{Duplicate, FailureClass, Hold, Row, StoreFailure, Writer};

/// The lane's way to the table: a writer, and what is known of the database.
pub(super) struct RowStore {
    shared: Shared,
    session: Session,
    writer: Writer,
}

impl RowStore {
    /// Creates a store that connects when it is first needed.
    pub(super) fn new(shared: Shared, session: Session, writer: Writer) -> Self {
        RowStore { shared, session, writer }
    }

    /// Stores the rows, retrying within the budget while the database is away.
    ///
    /// Every row's delivery is stored, a duplicate or rejected then. Where the budget ends first, the others stay pending.
    pub(super) async fn store(
        &mut self,
        rows: &mut Rows<'_>,
        budget: &mut RetryBudget,
    ) -> Result<(), HoldExpired> {
        let mut bisect = Bisect::new(rows.rows().len());
        while let Err(failure) = self.try_store(&mut bisect, rows, budget).await {
            let pending = bisect.end_round();
            let reason = match failure.class {
                FailureClass::Held(hold) => hold.label(),
                FailureClass::Data | FailureClass::Unknown => "unknown",
            };
            self.shared.metrics.store_retries.with_label_values(&[reason]).inc();
            if self.shared.health.lost(Dependency::Database, &failure.to_string()) {
                tracing::warn!(rows = pending, error = %failure, "cannot write to PostgreSQL: holding the batch and retrying");
            }
            let delay = budget.next_delay().ok_or(HoldExpired)?;
            self.session.sleep(delay).await.map_err(|Stop| HoldExpired)?;
        }
        Ok(())
    }

    /// Tries each part once. A failure is returned where rows are left for another round.
    async fn try_store(
        &mut self,
        bisect: &mut Bisect,
        rows: &mut Rows<'_>,
        budget: &RetryBudget,
    ) -> Result<(), StoreFailure> {
        let mut left = None;
        let mut timed_out = None;
        while let Some(part) = bisect.next() {
            // Halves that time out one after the other take longer than a batch may be held.
            if let Some(failure) = timed_out.take_if(|_| budget.is_spent() || self.session.is_over()) {
                bisect.report(part, Verdict::Retry);
                return Err(failure);
            }
            let Err(failure) = self.insert(rows, part.clone()).await else {
                bisect.report(part, Verdict::Stored);
                continue;
            };
            let verdict = match self.judge(&failure, part.len(), bisect.any_stored()).await {
                Ok(verdict) => verdict,
                Err(failure) => {
                    bisect.report(part, Verdict::Retry);
                    return Err(failure);
                }
            };
            if failure.class == FailureClass::Held(Hold::Timeout) {
                timed_out = Some(failure.clone());
            }
            match verdict {
                Verdict::Rejected => rows.settle(part.start, Fate::Rejected(rejection(failure))),
                _ if part.len() == 1 => left = Some(failure),
                _ => {}
            }
            bisect.report(part, verdict);
        }
        left.map_or(Ok(()), Err)
    }

    /// Decides what becomes of a part that failed. An error holds everything: nothing can be stored at the moment.
    async fn judge(
        &mut self,
        failure: &StoreFailure,
        rows: usize,
        any_stored: bool,
    ) -> Result<Verdict, StoreFailure> {
        match failure.class {
            // A single row may wait for another transaction's lock, and make all of them wait.
            FailureClass::Held(Hold::Timeout) => {
                self.writer.probe().await?;
                self.shared.metrics.store_retries.with_label_values(&[Hold::Timeout.label()]).inc();
                Ok(Verdict::Split)
            }
            FailureClass::Held(_) => Err(failure.clone()),
            FailureClass::Data | FailureClass::Unknown if rows > 1 => Ok(Verdict::Split),
            // The row's own fault, unless no row can be stored. Where others were, that is known.
            FailureClass::Data if any_stored => Ok(Verdict::Rejected),
            FailureClass::Data | FailureClass::Unknown => {
                self.writer.probe().await?;
                Ok(Verdict::Rejected)
            }
        }
    }

    /// Runs one insert, and counts and logs its result.
    async fn insert(&mut self, rows: &mut Rows<'_>, part: Range<usize>) -> Result<(), StoreFailure> {
        let started = Instant::now();
        let to_store = &rows.rows()[part.clone()];
        let stored = self.writer.insert(to_store).await?;
        let duplicates = if stored < to_store.len() { self.duplicates(to_store).await? } else { Vec::new() };
        self.database_answered();
        let metrics = &self.shared.metrics;
        metrics.commit_seconds.observe(started.elapsed().as_secs_f64());
        metrics.batch_rows.observe(part.len() as f64);
        metrics.duplicates.inc_by(duplicates.len() as u64);
        for row in part.clone() {
            rows.settle(row, Fate::Stored);
        }
        for duplicate in duplicates {
            let row = part.start + duplicate.index;
            rows.settle(row, Fate::Duplicate);
            if duplicate.conflicts() {
                metrics.conflicts.inc();
                tracing::warn!(
                    event_id = %rows.rows()[row].event.event_id.escape_debug(),
                    traceparent = rows.delivery(row).traceparent(),
                    stored = duplicate.stored,
                    received = duplicate.received,
                    "conflict: this event_id is stored with other data; the stored event stays"
                );
            }
        }
        let now = Utc::now();
        for row in part.filter(|row| rows.is_stored(*row)) {
            let event = &rows.rows()[row].event;
            metrics.count_stored(event.known_type());
            let age = (now - event.created_at).to_std().unwrap_or(Duration::ZERO);
            metrics.end_to_end_seconds.observe(age.as_secs_f64());
        }
        Ok(())
    }

    /// Returns the rows that were in the table before. A row that the database cannot compare counts as a duplicate that is
    /// not known to differ.
    async fn duplicates(&mut self, rows: &[Row<'_>]) -> Result<Vec<Duplicate>, StoreFailure> {
        let mut found = Vec::new();
        let mut bisect = Bisect::new(rows.len());
        while let Some(part) = bisect.next() {
            let verdict = match self.writer.duplicates(&rows[part.clone()]).await {
                Ok(duplicates) => {
                    let shifted =
                        duplicates.into_iter().map(|one| Duplicate { index: one.index + part.start, ..one });
                    found.extend(shifted);
                    Verdict::Stored
                }
                // Only a row that the server could not compare is taken for a duplicate.
                Err(failure)
                    if failure.sqlstate.is_none() || matches!(failure.class, FailureClass::Held(_)) =>
                {
                    return Err(failure);
                }
                Err(_) if part.len() > 1 => Verdict::Split,
                Err(_) => {
                    let (stored, received) = (String::new(), String::new());
                    found.push(Duplicate { index: part.start, stored, received });
                    Verdict::Rejected
                }
            };
            bisect.report(part, verdict);
        }
        Ok(found)
    }

    /// Waits until a row could be stored.
    pub(super) async fn wait_until_writable(&mut self) -> Result<(), Stop> {
        let mut backoff = Backoff::default();
        while let Err(failure) = self.writer.probe().await {
            if self.shared.health.lost(Dependency::Database, &failure.to_string()) {
                tracing::warn!(error = %failure, "cannot write to PostgreSQL: waiting until it is possible");
            }
            self.session.sleep(backoff.next_delay()).await?;
        }
        self.database_answered();
        Ok(())
    }

    /// Checks the database for an idle lane, which has no commit that would tell. Where the database was away, an answer is
    /// not enough: a row has to be stored.
    pub(super) async fn check(&mut self) {
        let away = self.shared.health.is_away(Dependency::Database);
        let checked = if away { self.writer.probe().await } else { self.writer.ping().await };
        match checked {
            Ok(()) => self.database_answered(),
            Err(failure) => {
                if self.shared.health.lost(Dependency::Database, &failure.to_string()) {
                    tracing::warn!(error = %failure, "PostgreSQL does not answer");
                }
            }
        }
    }

    fn database_answered(&mut self) {
        if self.writer.reconnected() {
            self.shared.metrics.reconnects.with_label_values(&[Dependency::Database.name()]).inc();
        }
        if self.shared.health.reached(Dependency::Database) {
            tracing::info!("PostgreSQL can be written to");
        }
    }
}

fn rejection(failure: StoreFailure) -> Rejection {
    Rejection {
        reason: Reason::DatabaseRejected,
        field: None,
        detail: format!("the database refused the row: {}", failure.message),
        sqlstate: failure.sqlstate,
    }
}
