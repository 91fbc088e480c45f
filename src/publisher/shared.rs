//! What the handles and the background task have in common.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, watch};

use super::buffer::Buffer;
use super::stats::{Count, Counts, Stats};

/// How often the same kind of trouble is told at most.
const TELL_EVERY: Duration = Duration::from_secs(1);

/// How far a publisher is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// In use.
    Open,
    /// The last handle is gone: what is left may be sent for a while.
    Abandoned,
    /// It has to end now.
    Ending,
}

/// Handles write to the line and read the rest; the background task does the opposite.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) line: Buffer,
    pub(super) counts: Counts,
    pub(super) phase: watch::Sender<Phase>,
    /// The `event_id`s that were neither confirmed nor on disk when the background task ended.
    pub(super) ended: watch::Sender<Option<Vec<String>>>,
    /// Something was confirmed.
    pub(super) progress: Notify,
    /// Why nothing can be sent; `None` while it can.
    outage: Mutex<Option<String>>,
    troubles: Mutex<Troubles>,
    told: Mutex<Told>,
    tell: Notify,
}

/// The last of each kind, in words.
#[derive(Debug, Default)]
struct Troubles {
    invalid: Option<String>,
    violation: Option<String>,
    returned: Option<String>,
    spool: Option<String>,
}

impl Shared {
    pub(super) fn new(line: Buffer) -> Self {
        Shared {
            line,
            counts: Counts::default(),
            phase: watch::Sender::new(Phase::Open),
            ended: watch::Sender::new(None),
            progress: Notify::new(),
            outage: Mutex::new(Some("not connected yet".to_owned())),
            troubles: Mutex::default(),
            told: Mutex::default(),
            tell: Notify::new(),
        }
    }

    pub(super) fn stats(&self) -> Stats {
        let counts = &self.counts;
        Stats {
            accepted: self.line.accepted(),
            invalid: counts.invalid.get(),
            violations: counts.violations.get(),
            dropped: counts.dropped.get(),
            confirmed: counts.confirmed.get(),
            returned: counts.returned.get(),
            resent: counts.resent.get(),
            spooled: counts.spooled.get(),
            recovered: counts.recovered.get(),
            damaged: counts.damaged.get(),
            waiting: self.line.waiting() as u64,
            in_flight: counts.in_flight.get(),
            in_spool: counts.in_spool.get(),
            connected: self.outage().is_none(),
        }
    }

    pub(super) fn outage(&self) -> Option<String> {
        self.outage.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says why nothing can be sent, or that it can. Returns whether that is news.
    pub(super) fn set_outage(&self, outage: Option<String>) -> bool {
        let mut known = self.outage.lock().unwrap_or_else(PoisonError::into_inner);
        let news = known.is_some() != outage.is_some();
        *known = outage;
        news
    }

    pub(super) fn dropped(&self) {
        self.counts.dropped.add(1);
        self.tell.notify_one();
        if self.ended.borrow().is_some() {
            self.tell_now(); // nobody else does it any more
        }
    }

    pub(super) fn invalid(&self, why: String) {
        self.counts.invalid.add(1);
        self.trouble(|troubles| troubles.invalid = Some(why));
    }

    pub(super) fn violation(&self, why: String) {
        self.counts.violations.add(1);
        self.trouble(|troubles| troubles.violation = Some(why));
    }

    pub(super) fn returned(&self, why: String) {
        self.counts.returned.add(1);
        self.trouble(|troubles| troubles.returned = Some(why));
    }

    pub(super) fn spool_trouble(&self, why: String) {
        self.trouble(|troubles| troubles.spool = Some(why));
    }

    fn trouble(&self, set: impl FnOnce(&mut Troubles)) {
        set(&mut self.troubles.lock().unwrap_or_else(PoisonError::into_inner));
        self.tell.notify_one();
    }

    /// Tells of troubles, once a second at most, however many there are.
    pub(super) async fn tell(&self) {
        loop {
            self.tell.notified().await;
            self.tell_now();
            tokio::time::sleep(TELL_EVERY).await;
        }
    }

    /// Tells what has happened since the last time, unless that was less than a second ago.
    pub(super) fn tell_now(&self) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.at.is_some_and(|at| at.elapsed() < TELL_EVERY) {
            return;
        }
        told.at = Some(Instant::now());
        let troubles = std::mem::take(&mut *self.troubles.lock().unwrap_or_else(PoisonError::into_inner));
        let (counts, reason) = (&self.counts, |of: Option<String>| of.unwrap_or_default());
        if let Some(events) = told.dropped.grown_to(&counts.dropped) {
            tracing::error!(events, "events were dropped: the buffer is full, or the publisher is closed");
        }
        if let Some(events) = told.invalid.grown_to(&counts.invalid) {
            let last = reason(troubles.invalid);
            tracing::error!(events, last, "events were refused: the worker could not store them");
        }
        if let Some(events) = told.violations.grown_to(&counts.violations) {
            tracing::warn!(
                events,
                last = reason(troubles.violation),
                "payloads break the schemas of their types"
            );
        }
        if let Some(messages) = told.returned.grown_to(&counts.returned) {
            let last = reason(troubles.returned);
            tracing::warn!(messages, last, "no queue takes messages: they are kept and sent again");
        }
        if let Some(why) = troubles.spool {
            tracing::error!(
                why,
                "the spool does not take events: they stay in memory as long as there is room"
            );
        }
    }
}

/// What has been told already, and when.
#[derive(Debug, Default)]
struct Told {
    at: Option<Instant>,
    dropped: Seen,
    invalid: Seen,
    violations: Seen,
    returned: Seen,
}

#[derive(Debug, Default)]
struct Seen(u64);

impl Seen {
    /// By how much a count has grown, where it has.
    fn grown_to(&mut self, count: &Count) -> Option<u64> {
        let before = std::mem::replace(&mut self.0, count.get());
        (self.0 > before).then(|| self.0 - before)
    }
}
