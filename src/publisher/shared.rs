//! State that the handles share with the publisher's thread, and its log of problems.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

use super::buffer::Buffer;
use super::stats::{Count, Counts, Stats};

/// Minimum time between two log lines of a kind.
const LOG_INTERVAL: Duration = Duration::from_secs(1);

/// Phase of a publisher's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// In use.
    Open,
    /// The last handle is dropped: the remaining events may be sent for a while.
    Dropped,
    /// Has to end now.
    Ending,
}

/// Shared state. Handles write the buffer and read the rest; the thread does the opposite.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) buffer: Buffer,
    pub(super) counts: Counts,
    pub(super) phase: watch::Sender<Phase>,
    /// `event_id`s that were neither confirmed nor on disk when the thread ended.
    pub(super) ended: watch::Sender<Option<Vec<String>>>,
    /// Notified when events are confirmed.
    pub(super) progress: Notify,
    /// Reason why nothing can be sent; `None` while the broker takes events.
    outage: Mutex<Option<String>>,
    problems: Mutex<Problems>,
    logged: Mutex<Logged>,
    log: Notify,
}

/// Text of the last problem of each kind.
#[derive(Debug, Default)]
struct Problems {
    invalid: Option<String>,
    violation: Option<String>,
    rejected: Option<String>,
    returned: Option<String>,
    spool: Option<String>,
}

impl Shared {
    pub(super) fn new(buffer: Buffer) -> Self {
        Shared {
            buffer,
            counts: Counts::default(),
            phase: watch::Sender::new(Phase::Open),
            ended: watch::Sender::new(None),
            progress: Notify::new(),
            outage: Mutex::new(Some("not connected yet".to_owned())),
            problems: Mutex::default(),
            logged: Mutex::default(),
            log: Notify::new(),
        }
    }

    pub(super) fn stats(&self) -> Stats {
        let counts = &self.counts;
        Stats {
            accepted: self.buffer.accepted(),
            invalid: counts.invalid.get(),
            violations: counts.violations.get(),
            dropped: counts.dropped.get(),
            confirmed: counts.confirmed.get(),
            rejected: counts.rejected.get(),
            returned: counts.returned.get(),
            resent: counts.resent.get(),
            spooled: counts.spooled.get(),
            recovered: counts.recovered.get(),
            damaged: counts.damaged.get(),
            waiting: self.buffer.waiting() as u64,
            in_flight: counts.in_flight.get(),
            in_spool: counts.in_spool.get(),
            connected: self.outage().is_none(),
        }
    }

    pub(super) fn outage(&self) -> Option<String> {
        self.outage.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sets the reason why nothing can be sent. Returns whether an outage began or ended.
    pub(super) fn set_outage(&self, outage: Option<String>) -> bool {
        let mut known = self.outage.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = known.is_some() != outage.is_some();
        *known = outage;
        changed
    }

    pub(super) fn dropped(&self) {
        self.counts.dropped.add(1);
        self.log.notify_one();
        if self.ended.borrow().is_some() {
            self.log_now(); // the thread, which logs otherwise, has ended
        }
    }

    pub(super) fn invalid(&self, error: String) {
        self.counts.invalid.add(1);
        self.problem(|problems| problems.invalid = Some(error));
    }

    pub(super) fn violation(&self, error: String) {
        self.counts.violations.add(1);
        self.problem(|problems| problems.violation = Some(error));
    }

    pub(super) fn rejected(&self, error: String) {
        self.counts.rejected.add(1);
        self.problem(|problems| problems.rejected = Some(error));
        self.progress.notify_waiters();
    }

    pub(super) fn returned(&self, error: String) {
        self.counts.returned.add(1);
        self.problem(|problems| problems.returned = Some(error));
    }

    pub(super) fn spool_failed(&self, error: String) {
        self.problem(|problems| problems.spool = Some(error));
    }

    fn problem(&self, set: impl FnOnce(&mut Problems)) {
        set(&mut self.problems.lock().unwrap_or_else(PoisonError::into_inner));
        self.log.notify_one();
    }

    /// Logs problems, each kind once a second at most.
    pub(super) async fn log_problems(&self) {
        loop {
            self.log.notified().await;
            self.log_now();
            tokio::time::sleep(LOG_INTERVAL).await;
        }
    }

    /// Logs the problems since the last time, unless that was less than a second ago.
    pub(super) fn log_now(&self) {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.at.is_some_and(|at| at.elapsed() < LOG_INTERVAL) {
            return;
        }
        logged.at = Some(Instant::now());
        let problems = std::mem::take(&mut *self.problems.lock().unwrap_or_else(PoisonError::into_inner));
        let (counts, text) = (&self.counts, |of: Option<String>| of.unwrap_or_default());
        if let Some(events) = logged.dropped.grown_to(&counts.dropped) {
            tracing::error!(events, "dropped events: the buffer is full, or the publisher is closed");
        }
        if let Some(events) = logged.invalid.grown_to(&counts.invalid) {
            let error = text(problems.invalid);
            tracing::error!(events, error, "refused events that a worker could not store");
        }
        if let Some(events) = logged.violations.grown_to(&counts.violations) {
            tracing::warn!(
                events,
                error = text(problems.violation),
                "payloads do not match the schemas of their types"
            );
        }
        if let Some(events) = logged.rejected.grown_to(&counts.rejected) {
            let error = text(problems.rejected);
            tracing::error!(events, error, "the broker refuses events for what they are: they are set aside");
        }
        if let Some(messages) = logged.returned.grown_to(&counts.returned) {
            let error = text(problems.returned);
            tracing::warn!(messages, error, "no queue takes the messages, keeping and resending them");
        }
        if let Some(error) = problems.spool {
            tracing::error!(error, "cannot write to the spool, keeping events in memory while there is room");
        }
    }
}

/// Counts that are logged already, and the time.
#[derive(Debug, Default)]
struct Logged {
    at: Option<Instant>,
    dropped: Seen,
    invalid: Seen,
    violations: Seen,
    rejected: Seen,
    returned: Seen,
}

#[derive(Debug, Default)]
struct Seen(u64);

impl Seen {
    /// Returns the growth of a count since the last call, if it has grown.
    fn grown_to(&mut self, count: &Count) -> Option<u64> {
        let before = std::mem::replace(&mut self.0, count.get());
        (self.0 > before).then(|| self.0 - before)
    }
}
