//! The background task: a sender, a keeper of the spool, and somebody who tells of troubles, on a thread of their own.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::config::SpoolWhen;
use super::in_flight::Outbound;
use super::sender::Sender;
use super::shared::{Phase, Shared};
use super::spool::{Spool, SpoolError};

/// How long the broker may be away before that is an outage: a reconnect need not touch the disk.
pub(super) const OUTAGE_AFTER: Duration = Duration::from_secs(1);

/// How long what is left is sent when the last handle is gone.
const ABANDONED_FOR: Duration = Duration::from_secs(5);

/// How long the spool is left alone after it has failed.
const SPOOL_RETRY: Duration = Duration::from_millis(500);

/// What one commit of the spool takes at most: a long one would keep the sender waiting.
const COMMIT_EVENTS: usize = 4096;

/// The same in bytes.
const COMMIT_BYTES: usize = 2 * 1024 * 1024;

/// Where events come from and where they go back to, as the background task sees it. The oldest are in `first`, then
/// come those of the spool that are not read, then those of the line.
pub(super) struct Outbox {
    pub(super) shared: Arc<Shared>,
    spool: Option<RefCell<Spool>>,
    when: SpoolWhen,
    away_since: Cell<Option<Instant>>,
    /// The same before there was a connection on which nothing is confirmed yet: it may be no better than the last.
    was_away_since: Cell<Option<Instant>>,
    /// To be sent before anything else.
    first: RefCell<VecDeque<Outbound>>,
    /// Not taken by the broker; the sender tries them now and then.
    pub(super) aside: RefCell<VecDeque<Outbound>>,
    /// Confirmed, and not forgotten by the spool yet.
    to_forget: RefCell<Vec<u64>>,
    spool_failed: Cell<Option<Instant>>,
}

impl Outbox {
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
        Outbox {
            shared,
            spool: spool.map(RefCell::new),
            when,
            away_since: Cell::new(Some(Instant::now())),
            was_away_since: Cell::new(None),
            first: RefCell::default(),
            aside: RefCell::default(),
            to_forget: RefCell::default(),
            spool_failed: Cell::new(None),
        }
    }

    /// The next events to send.
    pub(super) fn next(&self, max_events: usize, max_bytes: usize) -> Vec<Outbound> {
        let mut first = self.first.borrow_mut();
        if !first.is_empty() {
            let mut bytes = 0;
            let fits = |parcel: &&Outbound| {
                bytes += parcel.message.size();
                bytes <= max_bytes
            };
            let count = first.iter().take(max_events).take_while(fits).count().max(1);
            return first.drain(..count).collect();
        }
        if let Some(spool) = self.usable_spool() {
            if spool.borrow().has_unread() {
                let read = spool.borrow_mut().read(max_events, max_bytes);
                match self.spool_result(read) {
                    Some(kept) if !kept.is_empty() => return kept.into_iter().map(Outbound::from).collect(),
                    _ => {}
                }
            }
            if self.when == SpoolWhen::Always {
                return Vec::new();
            }
        }
        let taken = self.shared.line.take(max_events, max_bytes);
        taken.into_iter().map(Outbound::from).collect()
    }

    /// Resolves when [`next`](Outbox::next) may have something.
    pub(super) async fn something_to_send(&self, tick: Duration) {
        if self.when == SpoolWhen::Always && self.usable_spool().is_some() {
            self.shared.line.work.notified().await;
        } else {
            self.shared.line.something_to_send(tick).await;
        }
    }

    /// The spool, unless it has just failed: a bad disk does not stop what can go without it.
    fn usable_spool(&self) -> Option<&RefCell<Spool>> {
        let failed = self.spool_failed.get().is_some_and(|at| at.elapsed() < SPOOL_RETRY);
        self.spool.as_ref().filter(|_| !failed)
    }

    /// Remembers and tells of a failure.
    fn spool_result<T>(&self, result: Result<T, SpoolError>) -> Option<T> {
        result
            .inspect_err(|error| {
                self.spool_failed.set(Some(Instant::now()));
                self.shared.spool_trouble(error.to_string());
                let damaged = self.spool.as_ref().map_or(0, |spool| spool.borrow().damaged());
                self.shared.counts.damaged.set(damaged);
            })
            .ok()
    }

    /// These are confirmed.
    pub(super) fn confirmed(&self, parcels: &[Outbound]) {
        let from_line = parcels.iter().filter(|parcel| parcel.key.is_none());
        self.shared.line.release(from_line.map(|parcel| &parcel.message));
        self.to_forget.borrow_mut().extend(parcels.iter().filter_map(|parcel| parcel.key));
        self.forget();
        self.shared.counts.confirmed.add(parcels.len());
        self.shared.progress.notify_waiters();
    }

    /// Removes from the spool what is confirmed.
    fn forget(&self) {
        let mut keys = self.to_forget.borrow_mut();
        if let Some(spool) = self.usable_spool()
            && !keys.is_empty()
        {
            let removed = spool.borrow_mut().remove(&keys);
            if self.spool_result(removed).is_some() {
                keys.clear();
            }
        }
        if let Some(spool) = &self.spool {
            self.shared.counts.in_spool.set(spool.borrow().len().saturating_sub(keys.len()));
        }
    }

    /// These were in flight, and have to be sent again.
    pub(super) fn recall(&self, parcels: Vec<Outbound>) {
        self.shared.counts.resent.add(parcels.len());
        self.first(parcels);
    }

    /// These are sent before all others, in their order.
    pub(super) fn first(&self, parcels: Vec<Outbound>) {
        let mut first = self.first.borrow_mut();
        parcels.into_iter().rev().for_each(|parcel| first.push_front(parcel));
        self.shared.line.call_keeper();
    }

    /// There is a connection.
    pub(super) fn connected(&self) {
        self.was_away_since.set(self.away_since.take());
        if self.shared.set_outage(None) {
            tracing::info!("connected to the broker");
        }
    }

    /// The broker takes events.
    pub(super) fn reached(&self) {
        self.away_since.set(None);
        self.was_away_since.set(None);
        if self.shared.set_outage(None) {
            tracing::info!("events are sent again");
        }
    }

    /// The broker takes nothing, since then.
    pub(super) fn away(&self, reason: &str, since: Instant) {
        if self.away_since.get().is_none() {
            self.away_since.set(Some(self.was_away_since.take().unwrap_or(since)));
        }
        self.shared.line.call_keeper();
        if self.shared.set_outage(Some(reason.to_owned())) {
            tracing::warn!(reason, "events cannot be sent: they are kept until they can");
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

    /// Moves events of the line to the spool, a commit at a time.
    fn spool_line(&self, spool: &RefCell<Spool>) -> Result<(), SpoolError> {
        let room = spool.borrow().room();
        let taken = self.shared.line.take(COMMIT_EVENTS, COMMIT_BYTES.min(room));
        let appended = spool.borrow_mut().append(taken.iter().map(AsRef::as_ref));
        if let Err(error) = appended {
            self.shared.line.put_back(taken);
            return Err(error);
        }
        self.spooled(spool, &taken);
        self.shared.line.work.notify_one();
        Ok(())
    }

    /// Whether there are events in memory that the line has no more.
    fn has_unkept(&self) -> bool {
        let unkept = |parcels: &VecDeque<Outbound>| parcels.iter().any(|parcel| parcel.key.is_none());
        unkept(&self.first.borrow()) || unkept(&self.aside.borrow())
    }

    /// Writes what was taken from the line and not confirmed to the spool. It is older than what is there.
    fn spool_unkept(&self, spool: &RefCell<Spool>) -> Result<(), SpoolError> {
        for parcels in [&self.first, &self.aside] {
            let mut parcels = parcels.borrow_mut();
            let unkept = || parcels.iter().filter(|parcel| parcel.key.is_none());
            let messages: Vec<_> = unkept().map(|parcel| parcel.message.clone()).collect();
            if messages.is_empty() {
                continue;
            }
            let places = spool.borrow_mut().prepend(messages.iter().map(AsRef::as_ref))?..;
            let unkept = parcels.iter_mut().filter(|parcel| parcel.key.is_none());
            unkept.zip(places).for_each(|(parcel, place)| parcel.key = Some(place));
            self.spooled(spool, &messages);
        }
        Ok(())
    }

    fn spooled(&self, spool: &RefCell<Spool>, messages: &[Arc<crate::message::EncodedEvent>]) {
        self.shared.line.release(messages);
        self.shared.counts.spooled.add(messages.len());
        let to_forget = self.to_forget.borrow().len();
        self.shared.counts.in_spool.set(spool.borrow().len().saturating_sub(to_forget));
    }

    /// Keeps events on disk whenever they belong there.
    async fn keep(&self) {
        let Some(spool) = &self.spool else { return std::future::pending().await };
        loop {
            let spooling = self.spooling();
            let unkept = spooling && self.has_unkept();
            if unkept || self.shared.line.wants_keeper(spooling) {
                let kept = if unkept { self.spool_unkept(spool) } else { self.spool_line(spool) };
                if self.spool_result(kept).is_none() {
                    tokio::time::sleep(SPOOL_RETRY).await;
                }
                // The sender shares this thread.
                tokio::task::yield_now().await;
                continue;
            }
            self.forget();
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
        if let Some(spool) = &self.spool {
            self.spool_failed.set(None);
            let mut kept = self.spool_unkept(spool);
            while kept.is_ok() && self.shared.line.waiting() > 0 {
                kept = self.spool_line(spool);
            }
            if let Err(error) = kept {
                tracing::error!(%error, "the spool does not take all events that are left");
            }
            self.forget();
        }
        let memory = self.first.take().into_iter().chain(self.aside.take());
        let first = memory.filter(|parcel| parcel.key.is_none());
        let line = self.shared.line.take(usize::MAX, usize::MAX);
        let lost: Vec<_> =
            first.map(|parcel| parcel.message).chain(line).map(|of| of.event_id.clone()).collect();
        if !lost.is_empty() {
            tracing::error!(
                events = lost.len(),
                "the publisher ends with events that the broker has not confirmed"
            );
        }
        lost
    }
}

/// How nice this thread, and the client library's that it starts, are to the threads that log events.
#[cfg(target_os = "linux")]
const NICENESS: i32 = 10;

/// Lets the callers' threads go first where both want a processor: each time that sending took one from them would be
/// a slow call. Where the system does not allow it, or knows it for whole processes only, nothing but that is lost.
pub(super) fn yield_to_callers() {
    #[cfg(target_os = "linux")]
    let _ = rustix::process::setpriority_process(Some(rustix::thread::gettid()), NICENESS);
}

/// Says that the thread is gone, however it went.
struct ThreadGuard(Arc<Shared>);

impl Drop for ThreadGuard {
    fn drop(&mut self) {
        if self.0.ended.borrow().is_none() {
            tracing::error!("the publisher's thread failed: this is a bug. Nothing is published any more");
            let left = self.0.line.take(usize::MAX, usize::MAX);
            self.0.ended.send_replace(Some(left.iter().map(|message| message.event_id.clone()).collect()));
        }
        self.0.line.close();
        self.0.set_outage(Some("the publisher has ended".to_owned()));
    }
}

/// Runs until the publisher is closed, or abandoned and empty.
pub(super) async fn run(store: Outbox, sender: Sender) {
    let shared = store.shared.clone();
    let _gone = ThreadGuard(shared.clone());
    tokio::select! {
        () = sender.run(&store) => {}
        () = store.keep() => {}
        () = shared.tell() => {}
    }
    let lost = store.finish();
    shared.tell_now();
    shared.ended.send_replace(Some(lost));
}
