//! Storing the rows of a batch: what is stored stays stored, what can be is, and what never can be is found.

use std::ops::Range;
use std::time::{Duration, Instant};

use chrono::Utc;

use super::settle::{HoldExpired, Settler};
use crate::backoff::RetryBudget;
use crate::event::{Reason, Rejection};
use crate::metrics::Dependency;
use crate::store::{Duplicate, Failure, FailureClass, Hold, Row};

/// How far the rows of a batch have come. It outlives a try: what is stored is not stored again.
pub(super) struct Progress<'a> {
    rows: &'a [Row<'a>],
    /// The parts still to be stored, the first one last.
    parts: Vec<Range<usize>>,
    stored: Vec<Range<usize>>,
    rejected: Vec<(usize, Rejection)>,
}

impl<'a> Progress<'a> {
    pub(super) fn of(rows: &'a [Row<'a>]) -> Self {
        let mut parts = Vec::new();
        if !rows.is_empty() {
            parts.push(0..rows.len());
        }
        Progress { rows, parts, stored: Vec::new(), rejected: Vec::new() }
    }

    /// The rows, by their place in the batch, that are in the table.
    pub(super) fn stored(&self) -> impl Iterator<Item = usize> {
        self.stored.iter().cloned().flatten()
    }

    /// The rows, by their place in the batch, that the database will never take.
    pub(super) fn into_rejected(self) -> Vec<(usize, Rejection)> {
        self.rejected
    }

    fn halve(&mut self, part: Range<usize>) {
        let middle = part.start + part.len() / 2;
        self.parts.push(middle..part.end);
        self.parts.push(part.start..middle);
    }
}

impl Settler {
    /// Stores the rows, however long the database is away.
    pub(super) async fn persist(
        &mut self,
        progress: &mut Progress<'_>,
        budget: &mut RetryBudget,
    ) -> Result<(), HoldExpired> {
        while let Err(failure) = self.try_persist(progress, budget).await {
            let reason = match failure.class {
                FailureClass::Held(hold) => hold.label(),
                FailureClass::Data | FailureClass::Unknown => "unknown",
            };
            self.shared.metrics.store_retries.with_label_values(&[reason]).inc();
            let rows: usize = progress.parts.iter().map(ExactSizeIterator::len).sum();
            if self.shared.health.lost(Dependency::Database, &failure.to_string()) {
                tracing::warn!(rows, %failure, "the database cannot store: holding the batch");
            }
            self.wait(budget).await?;
        }
        Ok(())
    }

    /// One try. Rows that are their own fault are found by halving, so that one bad row in a thousand costs a
    /// few statements, and its neighbours are stored.
    async fn try_persist(
        &mut self,
        progress: &mut Progress<'_>,
        budget: &RetryBudget,
    ) -> Result<(), Failure> {
        let mut stuck = None;
        let mut timed_out = None;
        let mut waiting = Vec::new();
        while let Some(part) = progress.parts.pop() {
            // Halves that time out one after the other take longer than a batch may be held.
            if let Some(failure) = timed_out.take_if(|_| self.is_over(budget)) {
                progress.parts.push(part);
                progress.parts.append(&mut waiting);
                return Err(failure);
            }
            let failure = match self.store_part(progress.rows, part.clone()).await {
                Ok(()) => {
                    progress.stored.push(part);
                    continue;
                }
                Err(failure) => failure,
            };
            let alone = part.len() == 1;
            let blamed = match failure.class {
                // One row may be waiting for somebody's lock, and make all of them wait.
                FailureClass::Held(Hold::Timeout) => {
                    timed_out = Some(failure.clone());
                    let probed = self.writer.probe().await;
                    if probed.is_ok() {
                        self.shared.metrics.store_retries.with_label_values(&["timeout"]).inc();
                    }
                    probed
                }
                FailureClass::Held(_) => Err(failure.clone()),
                // The row's own fault, unless no row can be stored. Where others were, that is known.
                FailureClass::Data if !alone || !progress.stored.is_empty() => Ok(()),
                FailureClass::Unknown if !alone => Ok(()),
                FailureClass::Data | FailureClass::Unknown => self.writer.probe().await,
            };
            match blamed {
                Err(failure) => {
                    progress.parts.push(part);
                    progress.parts.append(&mut waiting);
                    return Err(failure);
                }
                Ok(()) if !alone => progress.halve(part),
                Ok(()) if matches!(failure.class, FailureClass::Held(_)) => {
                    waiting.push(part);
                    stuck = Some(failure);
                }
                Ok(()) => progress.rejected.push((part.start, rejection(failure))),
            }
        }
        progress.parts = waiting;
        stuck.map_or(Ok(()), Err)
    }

    /// Whether a batch that could not be stored is to be held no longer.
    fn is_over(&self, budget: &RetryBudget) -> bool {
        budget.is_spent() || self.shared.shutdown.is_cancelled() || self.session.is_cancelled()
    }

    /// One insert, and what there is to know about it.
    async fn store_part(&mut self, rows: &[Row<'_>], part: Range<usize>) -> Result<(), Failure> {
        let rows = &rows[part];
        let started = Instant::now();
        let stored = self.writer.insert(rows).await?;
        let duplicates = if stored < rows.len() { self.duplicates(rows).await? } else { Vec::new() };
        self.database_answered();
        let metrics = &self.shared.metrics;
        metrics.commit_seconds.observe(started.elapsed().as_secs_f64());
        metrics.batch_rows.observe(rows.len() as f64);
        metrics.duplicates.inc_by(duplicates.len() as u64);
        let mut new = vec![true; rows.len()];
        for duplicate in &duplicates {
            new[duplicate.index] = false;
            if duplicate.conflicts() {
                metrics.conflicts.inc();
                let row = &rows[duplicate.index];
                tracing::warn!(
                    event_id = %row.event.event_id.escape_debug(),
                    traceparent = row.traceparent,
                    stored = duplicate.stored,
                    received = duplicate.received,
                    "conflict: this event_id is stored with other data; the stored event stays"
                );
            }
        }
        let now = Utc::now();
        for (row, _) in rows.iter().zip(new).filter(|(_, new)| *new) {
            metrics.count_stored(row.event.kind());
            let age = (now - row.event.created_at).to_std().unwrap_or(Duration::ZERO);
            metrics.end_to_end_seconds.observe(age.as_secs_f64());
        }
        Ok(())
    }

    /// Which rows somebody else had stored. The rows are in the table in any case: one that the database cannot
    /// compare is a duplicate that is not known to differ.
    async fn duplicates(&mut self, rows: &[Row<'_>]) -> Result<Vec<Duplicate>, Failure> {
        let mut found = Vec::new();
        let mut parts = Vec::new();
        parts.push(0..rows.len());
        while let Some(part) = parts.pop() {
            match self.writer.duplicates(&rows[part.clone()]).await {
                Ok(duplicates) => found.extend(
                    duplicates.into_iter().map(|one| Duplicate { index: one.index + part.start, ..one }),
                ),
                // Only a row that the server could not compare is taken for a duplicate.
                Err(failure)
                    if failure.sqlstate.is_none() || matches!(failure.class, FailureClass::Held(_)) =>
                {
                    return Err(failure);
                }
                Err(_) if part.len() > 1 => {
                    let middle = part.start + part.len() / 2;
                    parts.push(part.start..middle);
                    parts.push(middle..part.end);
                }
                Err(_) => found.push(Duplicate {
                    index: part.start,
                    stored: String::new(),
                    received: String::new(),
                }),
            }
        }
        Ok(found)
    }
}

fn rejection(failure: Failure) -> Rejection {
    Rejection {
        reason: Reason::DatabaseRejected,
        field: None,
        detail: format!("the database refused the row: {}", failure.message),
        sqlstate: failure.sqlstate,
    }
}
