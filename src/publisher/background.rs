//! The background task: a sender, a keeper of the spool, and somebody who tells of troubles, on a thread of their own.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::config::SpoolWhen;
use super::flight::Parcel;
use super::sender::Sender;
use super::shared::{Phase, Shared, Told};
use super::spool::{Spool, SpoolError};

/// How long the broker may be away before that is an outage: a reconnect need not touch the disk.
const OUTAGE_AFTER: Duration = Duration::from_secs(1);

/// How long what is left is sent when the last handle is gone.
const ABANDONED_FOR: Duration = Duration::from_secs(5);

/// How long the spool is left alone after it has failed.
const SPOOL_RETRY: Duration = Duration::from_millis(500);

/// Where events come from and where they go back to, as the background task sees it.
pub(super) struct Store {
    pub(super) shared: Arc<Shared>,
    spool: Option<RefCell<Spool>>,
    when: SpoolWhen,
    away_since: Cell<Option<Instant>>,
}

impl Store {
    pub(super) fn new(shared: Arc<Shared>, spool: Option<Spool>, when: SpoolWhen) -> Self {
        let found = spool.as_ref().map_or(0, Spool::len);
        shared.counts.in_spool.set(found);
        shared.counts.recovered.add(found);
        if found > 0 {
            tracing::info!(
                events = found,
                "events of an earlier process are in the spool: they are sent first"
            );
        }
        Store { shared, spool: spool.map(RefCell::new), when, away_since: Cell::new(Some(Instant::now())) }
    }

    /// The next events to send. Those of the spool are older than those of the line.
    pub(super) fn next(&self, max_events: usize, max_bytes: usize) -> Result<Vec<Parcel>, SpoolError> {
        if let Some(spool) = &self.spool {
            if spool.borrow().has_unread() {
                let kept = spool.borrow_mut().read(max_events, max_bytes)?;
                return Ok(kept.into_iter().map(Parcel::from).collect());
            }
            if self.when == SpoolWhen::Always {
                return Ok(Vec::new());
            }
        }
        let taken = self.shared.line.take(max_events, max_bytes);
        Ok(taken.into_iter().map(Parcel::from).collect())
    }

    /// These are confirmed. Those of the spool count when they are forgotten there: until then they may be sent again.
    pub(super) fn confirmed(&self, parcels: &[Parcel]) -> Result<(), SpoolError> {
        let from_line = parcels.iter().filter(|parcel| parcel.key.is_none());
        self.shared.line.release(from_line.map(|parcel| &parcel.message));
        let keys: Vec<_> = parcels.iter().filter_map(|parcel| parcel.key).collect();
        self.shared.counts.confirmed.add(parcels.len() - keys.len());
        if let Some(spool) = &self.spool
            && !keys.is_empty()
        {
            spool.borrow_mut().remove(&keys)?;
            self.shared.counts.in_spool.set(spool.borrow().len());
            self.shared.counts.confirmed.add(keys.len());
        }
        self.shared.progress.notify_waiters();
        Ok(())
    }

    /// These have to be sent again, before all others and in their order.
    pub(super) fn recall(&self, parcels: Vec<Parcel>) {
        self.shared.counts.resent.add(parcels.len());
        if let Some(spool) = &self.spool {
            spool.borrow_mut().rewind();
        }
        let from_line = parcels.into_iter().filter(|parcel| parcel.key.is_none());
        self.shared.line.put_back(from_line.map(|parcel| parcel.message).collect());
    }

    /// This one has to be sent again, after all others.
    pub(super) fn put_last(&self, parcel: Parcel) -> Result<(), SpoolError> {
        self.shared.counts.resent.add(1);
        match (&self.spool, parcel.key) {
            (Some(spool), Some(key)) => spool.borrow_mut().put_last(key, &parcel.message),
            _ => {
                self.shared.line.put_last(parcel.message);
                Ok(())
            }
        }
    }

    /// The broker takes events.
    pub(super) fn reached(&self) {
        self.away_since.set(None);
        self.shared.line.call_keeper();
        if self.shared.set_outage(None) {
            tracing::info!("the broker takes events");
        }
    }

    /// The broker takes nothing.
    pub(super) fn away(&self, reason: &str) {
        if self.away_since.get().is_none() {
            self.away_since.set(Some(Instant::now()));
        }
        self.shared.line.call_keeper();
        if self.shared.set_outage(Some(reason.to_owned())) {
            tracing::warn!(reason, "the broker is away: events are kept, and sent when it is back");
        }
    }

    /// Whether every event belongs on the disk.
    fn spooling(&self) -> bool {
        match self.when {
            SpoolWhen::Always => true,
            SpoolWhen::Outage => self.away_since.get().is_some_and(|since| since.elapsed() >= OUTAGE_AFTER),
            SpoolWhen::BufferFull => false,
        }
    }

    /// Moves the line to the spool.
    fn spool(&self, spool: &RefCell<Spool>) -> Result<(), SpoolError> {
        let taken = self.shared.line.take(usize::MAX, usize::MAX);
        let appended = spool.borrow_mut().append(taken.iter().map(AsRef::as_ref));
        if let Err(error) = appended {
            self.shared.line.put_back(taken);
            return Err(error);
        }
        self.shared.line.release(&taken);
        self.shared.counts.spooled.add(taken.len());
        self.shared.counts.in_spool.set(spool.borrow().len());
        self.shared.line.work.notify_one();
        Ok(())
    }

    /// Keeps events on disk whenever they belong there.
    async fn keep(&self) {
        let Some(spool) = &self.spool else { return std::future::pending().await };
        loop {
            if self.shared.line.wants_keeper(self.spooling()) {
                if let Err(error) = self.spool(spool) {
                    self.shared.spool_trouble(error.to_string());
                    tokio::time::sleep(SPOOL_RETRY).await;
                }
                // The sender shares this thread.
                tokio::task::yield_now().await;
                continue;
            }
            let outage_begins = self.away_since.get().map(|since| since + OUTAGE_AFTER);
            let outage_begins = outage_begins.filter(|at| *at > Instant::now());
            tokio::select! {
                () = self.shared.line.something_to_keep() => {}
                () = tokio::time::sleep_until(outage_begins.unwrap_or_else(Instant::now)), if outage_begins.is_some() => {}
            }
        }
    }

    /// Resolves when the sender has to end.
    pub(super) async fn ending(&self) {
        let mut phase = self.shared.phase.subscribe();
        let _ = phase.wait_for(|phase| *phase > Phase::Open).await;
        if *phase.borrow_and_update() == Phase::Abandoned {
            let nothing_left = async {
                while self.shared.stats().left() > 0 {
                    self.shared.progress.notified().await;
                }
            };
            let ended = phase.wait_for(|phase| *phase == Phase::Ending);
            tokio::select! {
                () = nothing_left => {}
                _ = ended => {}
                () = tokio::time::sleep(ABANDONED_FOR) => {}
            }
        }
    }

    /// What is in memory goes to the disk, where there is a spool; then the spool is another's. Returns the `event_id`s that
    /// could not be kept.
    fn finish(self) -> Vec<String> {
        if let Some(spool) = &self.spool
            && let Err(error) = self.spool(spool)
        {
            tracing::error!(%error, "the spool does not take the events that are left");
        }
        let left = self.shared.line.take(usize::MAX, usize::MAX);
        if !left.is_empty() {
            tracing::error!(
                events = left.len(),
                "the publisher ends with events that the broker has not confirmed"
            );
        }
        left.iter().map(|message| message.event_id.clone()).collect()
    }
}

/// How nice this thread, and the client library's that it starts, are to the threads that log events.
const NICENESS: i32 = 10;

/// Lets the callers' threads go first where both want a processor: each time that sending took one from them would be
/// a slow call. Where the system does not allow it, nothing but that is lost.
pub(super) fn yield_to_callers() {
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICENESS);
}

/// Runs until the publisher is closed, or abandoned and empty.
pub(super) async fn run(store: Store, sender: Sender) {
    tokio::select! {
        () = sender.run(&store) => {}
        () = store.keep() => {}
        () = store.shared.tell() => {}
    }
    let shared = store.shared.clone();
    shared.tell_now(&mut Told::default());
    let left = store.finish();
    shared.ended.send_replace(Some(left));
}
