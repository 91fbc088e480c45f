//! Storing the rows of a batch: what can be stored is, and the rows that the database never takes are found.

use std::ops::Range;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use chrono::Utc;

use super::Shared;
use super::bisect::{Bisect, Verdict};
use super::decode::Rows;
use super::fate::Fate;
use super::judge::{Decision, judge, shows_that_the_server_writes};
use super::session::{HoldExpired, Session, Stop};
use crate::backoff::Backoff;
use crate::config::Conflicts;
use crate::event::{Reason, Rejection};
use crate::metrics::Dependency;
use crate::retry_budget::RetryBudget;
use crate::store::{Duplicate, FailureClass, Hold, Row, StoreFailure, Writer};

/// Time limit of an insert while the rows of a batch that timed out are tried in parts.
const PART_TIMEOUT: Duration = Duration::from_secs(1);

/// Single rows that may time out before any row of their batch was stored: then the server is slow, and not a row locked.
const MAX_LONE_TIMEOUTS: usize = 3;

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
            if self.shared.health.lost(Dependency::Database, &failure.to_string()) {
                tracing::warn!(rows = pending, error = %failure, "cannot write to PostgreSQL: holding the batch and retrying");
            }
            let delay = budget.next_delay().ok_or(HoldExpired)?;
            self.session.sleep(delay).await.map_err(|Stop| HoldExpired)?;
        }
        Ok(())
    }

    /// Tries to store the rows once, each part alone where necessary. A row that cannot be stored at the moment although others can
    /// is held.
    ///
    /// # Errors
    /// Nothing can be stored at the moment: the rows that were not tried stay pending.
    pub(super) async fn store_once(&mut self, rows: &mut Rows<'_>) -> Result<(), StoreFailure> {
        let mut bisect = Bisect::new(rows.rows().len());
        let budget = RetryBudget::new(Duration::from_secs(self.shared.config.worker.hold_seconds));
        self.try_store(&mut bisect, rows, &budget).await
    }

    /// Tries each part once. A failure is returned where rows are left for another round.
    async fn try_store(
        &mut self,
        bisect: &mut Bisect,
        rows: &mut Rows<'_>,
        budget: &RetryBudget,
    ) -> Result<(), StoreFailure> {
        let (mut timed_out, mut lone_timeouts) = (None, 0);
        let tried = loop {
            let Some(part) = bisect.next() else { break Ok(()) };
            // Parts that time out one after the other take longer than a batch may be held.
            if let Some(failure) = timed_out.take_if(|_| budget.is_spent() || self.session.is_over()) {
                bisect.report(part, Verdict::Retry);
                break Err(failure);
            }
            let Err(failure) = self.insert(rows, part.clone()).await else {
                bisect.report(part, Verdict::Stored);
                continue;
            };
            if let FailureClass::Held(hold) = failure.class {
                self.shared.metrics.store_retries.with_label_values(&[hold.label()]).inc();
            }
            if failure.class == FailureClass::Held(Hold::Timeout) {
                timed_out = Some(failure.clone());
                // A row that waits for a lock is found in a fraction of the time.
                self.writer.limit_inserts(Some(PART_TIMEOUT));
            }
            let verdict = match self.decide(&failure, part.len(), bisect.any_stored()).await {
                Decision::Split => Verdict::Split,
                Decision::TryAgain => Verdict::TryAgain,
                Decision::Reject => {
                    rows.settle(part.start, Fate::Rejected(rejection(failure)));
                    Verdict::Rejected
                }
                Decision::HoldAlone if lone_timeouts < MAX_LONE_TIMEOUTS => {
                    if failure.class == FailureClass::Held(Hold::Timeout) && !bisect.any_stored() {
                        lone_timeouts += 1;
                    }
                    rows.settle(part.start, Fate::Held(failure));
                    Verdict::Held
                }
                Decision::HoldAlone | Decision::HoldAll | Decision::NeedsProbe => {
                    bisect.report(part, Verdict::Retry);
                    break Err(failure);
                }
            };
            bisect.report(part, verdict);
        };
        self.writer.limit_inserts(None);
        tried
    }

    /// Decides about a part that failed, with a probe where that is necessary.
    async fn decide(&mut self, failure: &StoreFailure, rows: usize, any_stored: bool) -> Decision {
        match judge(failure, rows, any_stored, None) {
            Decision::NeedsProbe => judge(failure, rows, any_stored, Some(&self.probe().await)),
            decision => decision,
        }
    }

    /// Checks whether a row can be stored: one like that which was stored last, or an invented one, which a constraint of the operator
    /// may refuse.
    ///
    /// # Errors
    /// The reason why the invented row cannot be stored.
    pub(super) async fn probe(&mut self) -> Result<(), StoreFailure> {
        if let Some(event) = self.shared.last_stored.get()
            && self.writer.probe_like(event).await.is_ok()
        {
            return Ok(());
        }
        self.writer.probe().await
    }

    /// Runs one insert, and counts and logs its result.
    async fn insert(&mut self, rows: &mut Rows<'_>, part: Range<usize>) -> Result<(), StoreFailure> {
        let started = Instant::now();
        let to_store = &rows.rows()[part.clone()];
        let stored = self.writer.insert(to_store).await?;
        let duplicates = if stored < to_store.len() { self.duplicates(to_store).await? } else { Vec::new() };
        self.database_answered();
        let metrics = &self.shared.metrics;
        self.shared.committed.fetch_add(1, Ordering::Relaxed);
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
                // Another tenant's event must not be acknowledged as if it were stored.
                if !duplicate.same_tenant || self.shared.config.worker.conflicts == Conflicts::DeadLetter {
                    rows.settle(row, Fate::Rejected(conflict()));
                }
                tracing::warn!(
                    event_id = %rows.rows()[row].event.event_id.escape_debug(),
                    traceparent = rows.delivery(row).traceparent(),
                    stored = duplicate.stored,
                    received = duplicate.received,
                    "conflict: this event_id is stored with other data; the stored event stays"
                );
            }
        }
        let stored = part.clone().filter(|row| rows.is_stored(*row));
        self.shared.notifier.stored(stored.map(|row| rows.rows()[row].event.tenant_id));
        if let Some(row) = part.clone().find(|row| rows.is_stored(*row)) {
            self.shared.last_stored.set(&rows.rows()[row].event);
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
                    found.push(Duplicate { index: part.start, stored, received, same_tenant: true });
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
            if shows_that_the_server_writes(&failure) {
                break;
            }
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
            Err(failure) if shows_that_the_server_writes(&failure) => {}
            Err(failure) => {
                if self.shared.health.lost(Dependency::Database, &failure.to_string()) {
                    tracing::warn!(error = %failure, "PostgreSQL does not answer");
                }
            }
        }
    }

    pub(super) fn database_answered(&mut self) {
        if self.writer.reconnected() {
            self.shared.metrics.reconnects.with_label_values(&[Dependency::Database.name()]).inc();
        }
        if self.shared.health.reached(Dependency::Database) {
            tracing::info!("PostgreSQL can be written to");
        }
    }
}

/// Returns the rejection of an event whose `event_id` another event has. It does not say whose: that may be another tenant's.
fn conflict() -> Rejection {
    Rejection {
        reason: Reason::Conflict,
        field: Some("event_id".into()),
        detail: "another event is stored under this event_id".to_owned(),
        sqlstate: None,
    }
}

pub(super) fn rejection(failure: StoreFailure) -> Rejection {
    Rejection {
        reason: Reason::DatabaseRejected,
        field: None,
        detail: match &failure.object {
            Some(object) => format!("the database refused the row ({object}): {}", failure.message),
            None => format!("the database refused the row: {}", failure.message),
        },
        sqlstate: failure.sqlstate,
    }
}
