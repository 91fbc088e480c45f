//! The events that have to be sent, as the publisher's thread sees them: returned to the front, in the spool, in the buffer.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::config::SpoolWhen;
use super::in_flight::Outbound;
use super::refused::Refused;
use super::shared::{Phase, Shared};
use super::spool::{Spool, SpoolError};

/// Time without the broker after which it is an outage: a short reconnect does not need the disk.
pub(super) const OUTAGE_AFTER: Duration = Duration::from_secs(1);

/// Time in which the remaining events are sent after the last handle is dropped.
const DROPPED_TIMEOUT: Duration = Duration::from_secs(5);

/// Pause after a failure of the spool.
const SPOOL_RETRY: Duration = Duration::from_millis(500);

/// Maximum events of a commit of the spool: a long commit delays the sender.
const COMMIT_EVENTS: usize = 4096;

/// Maximum bytes of a commit of the spool.
const COMMIT_BYTES: usize = 2 * 1024 * 1024;

/// Source of the events to send, and the place to which unconfirmed ones return. The oldest are in `first`, then come the unread
/// ones of the spool, then those of the buffer.
pub(super) struct Outbox {
    pub(super) shared: Arc<Shared>,
    spool: Option<RefCell<Spool>>,
    pub(super) refused: Refused,
    when: SpoolWhen,
    away_since: Cell<Option<Instant>>,
    /// Start of the outage before a connection on which nothing is confirmed yet: it may fail like the last one.
    was_away_since: Cell<Option<Instant>>,
    /// Events to send before all others.
    first: RefCell<VecDeque<Outbound>>,
    /// Events that the broker did not take; the sender retries them at times.
    pub(super) parked: RefCell<VecDeque<Outbound>>,
    /// Places in the spool of confirmed events that are not removed yet.
    to_remove: RefCell<Vec<u64>>,
    spool_failed: Cell<Option<Instant>>,
}

impl Outbox {
    pub(super) fn new(shared: Arc<Shared>, spool: Option<Spool>, refused: Refused, when: SpoolWhen) -> Self {
        let found = spool.as_ref().map_or(0, Spool::len);
        shared.counts.in_spool.set(found);
        shared.counts.recovered.add(found);
        if found > 0 {
            tracing::info!(
                events = found,
                "the spool contains events of an earlier process: they are sent first"
            );
        }
        Outbox {
            shared,
            spool: spool.map(RefCell::new),
            refused,
            when,
            away_since: Cell::new(Some(Instant::now())),
            was_away_since: Cell::new(None),
            first: RefCell::default(),
            parked: RefCell::default(),
            to_remove: RefCell::default(),
            spool_failed: Cell::new(None),
        }
    }

    /// Takes the next events to send.
    pub(super) fn next(&self, max_events: usize, max_bytes: usize) -> Vec<Outbound> {
        let mut first = self.first.borrow_mut();
        if !first.is_empty() {
            let mut bytes = 0;
            let fits = |event: &&Outbound| {
                bytes += event.message.size();
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
        let taken = self.shared.buffer.take(max_events, max_bytes);
        taken.into_iter().map(Outbound::from).collect()
    }

    /// Waits until [`next`](Outbox::next) may have events.
    pub(super) async fn something_to_send(&self, tick: Duration) {
        let unread = |spool: &RefCell<Spool>| spool.borrow().has_unread();
        if !self.first.borrow().is_empty() || self.usable_spool().is_some_and(unread) {
            return;
        }
        if self.when == SpoolWhen::Always && self.usable_spool().is_some() {
            self.shared.buffer.work.notified().await;
        } else {
            self.shared.buffer.something_to_send(tick).await;
        }
    }

    /// Returns the spool, unless it failed recently: a bad disk does not stop events that can be sent without it.
    fn usable_spool(&self) -> Option<&RefCell<Spool>> {
        let failed = self.spool_failed.get().is_some_and(|at| at.elapsed() < SPOOL_RETRY);
        self.spool.as_ref().filter(|_| !failed)
    }

    /// Records and logs a failure of the spool.
    fn spool_result<T>(&self, result: Result<T, SpoolError>) -> Option<T> {
        result
            .inspect_err(|error| {
                self.spool_failed.set(Some(Instant::now()));
                self.shared.spool_failed(error.to_string());
                let damaged = self.spool.as_ref().map_or(0, |spool| spool.borrow().damaged());
                self.shared.counts.damaged.set(damaged);
            })
            .ok()
    }

    /// Records that events are confirmed.
    pub(super) fn confirmed(&self, events: &[Outbound]) {
        let from_buffer = events.iter().filter(|event| event.key.is_none());
        self.shared.buffer.release(from_buffer.map(|event| &event.message));
        self.to_remove.borrow_mut().extend(events.iter().filter_map(|event| event.key));
        self.remove_confirmed();
        self.shared.counts.confirmed.add(events.len());
        self.shared.progress.notify_waiters();
    }

    /// Removes confirmed events from the spool.
    fn remove_confirmed(&self) {
        let mut keys = self.to_remove.borrow_mut();
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

    /// Takes back events that were in flight.
    pub(super) fn recall(&self, events: Vec<Outbound>) {
        self.shared.counts.resent.add(events.len());
        self.first(events);
    }

    /// Takes back events that were in flight when the broker refused one of them. Where that is known, it is set aside.
    pub(super) fn refused(&self, in_flight: Vec<Outbound>, reason: &str) {
        let event = match self.refused.found_in(in_flight) {
            Ok(event) => event,
            Err(suspects) => return self.recall(suspects),
        };
        let kept = self.refused.set_aside(&event);
        let place = match &kept {
            Ok(true) => "set aside in refused.jsonl".to_owned(),
            Ok(false) => "lost, there is no spool".to_owned(),
            Err(error) => format!("cannot be set aside: {error}"),
        };
        self.shared.rejected(format!("event_id {}: {reason}: {place}", event.message.event_id));
        match event.key {
            None => self.shared.buffer.release([&event.message]),
            // In the spool it stays until it is in the file: the next process tries again.
            Some(key) if kept.is_ok() => self.to_remove.borrow_mut().push(key),
            Some(_) => {}
        }
        self.remove_confirmed();
    }

    /// Puts events before all others, in their order.
    pub(super) fn first(&self, events: Vec<Outbound>) {
        let mut first = self.first.borrow_mut();
        events.into_iter().rev().for_each(|event| first.push_front(event));
        self.shared.buffer.call_keeper();
    }

    /// Records that there is a connection.
    pub(super) fn connected(&self) {
        self.was_away_since.set(self.away_since.take());
        if self.shared.set_outage(None) {
            tracing::info!("connected to the broker");
        }
    }

    /// Records that the broker takes events.
    pub(super) fn reached(&self) {
        self.away_since.set(None);
        self.was_away_since.set(None);
        if self.shared.set_outage(None) {
            tracing::info!("the broker takes events again");
        }
    }

    /// Records that the broker has taken nothing since a moment.
    pub(super) fn away(&self, reason: &str, since: Instant) {
        if self.away_since.get().is_none() {
            self.away_since.set(Some(self.was_away_since.take().unwrap_or(since)));
        }
        self.shared.buffer.call_keeper();
        if self.shared.set_outage(Some(reason.to_owned())) {
            tracing::warn!(error = reason, "cannot send events, keeping them");
        }
    }

    /// Returns whether every event belongs into the spool.
    fn spooling(&self) -> bool {
        match self.when {
            SpoolWhen::Always => true,
            SpoolWhen::Outage => self.away_since.get().is_some_and(|since| since.elapsed() >= OUTAGE_AFTER),
            SpoolWhen::BufferFull => false,
        }
    }

    /// Moves events from the buffer to the spool, one commit.
    fn spool_buffered(&self, spool: &RefCell<Spool>) -> Result<(), SpoolError> {
        let room = spool.borrow().room();
        let taken = self.shared.buffer.take(COMMIT_EVENTS, COMMIT_BYTES.min(room));
        let appended = spool.borrow_mut().append(taken.iter().map(AsRef::as_ref));
        if let Err(error) = appended {
            self.shared.buffer.put_back(taken);
            return Err(error);
        }
        self.spooled(spool, &taken);
        self.shared.buffer.work.notify_one();
        Ok(())
    }

    /// Returns whether events that left the buffer are only in memory.
    fn has_unspooled(&self) -> bool {
        let unspooled = |events: &VecDeque<Outbound>| events.iter().any(|event| event.key.is_none());
        unspooled(&self.first.borrow()) || unspooled(&self.parked.borrow())
    }

    /// Writes events that left the buffer and are not confirmed to the spool. They are older than the events there.
    fn spool_taken(&self, spool: &RefCell<Spool>) -> Result<(), SpoolError> {
        for events in [&self.first, &self.parked] {
            let mut events = events.borrow_mut();
            let unspooled = || events.iter().filter(|event| event.key.is_none());
            let messages: Vec<_> = unspooled().map(|event| event.message.clone()).collect();
            if messages.is_empty() {
                continue;
            }
            let places = spool.borrow_mut().prepend(messages.iter().map(AsRef::as_ref))?..;
            let unspooled = events.iter_mut().filter(|event| event.key.is_none());
            unspooled.zip(places).for_each(|(event, place)| event.key = Some(place));
            self.spooled(spool, &messages);
        }
        Ok(())
    }

    fn spooled(&self, spool: &RefCell<Spool>, messages: &[Arc<crate::message::EncodedEvent>]) {
        self.shared.buffer.release(messages);
        self.shared.counts.spooled.add(messages.len());
        let to_remove = self.to_remove.borrow().len();
        self.shared.counts.in_spool.set(spool.borrow().len().saturating_sub(to_remove));
    }

    /// Moves events to the spool whenever they belong there.
    pub(super) async fn keep(&self) {
        let Some(spool) = &self.spool else { return std::future::pending().await };
        loop {
            let spooling = self.spooling();
            let unspooled = spooling && self.has_unspooled();
            if unspooled || self.shared.buffer.wants_keeper(spooling) {
                let kept = if unspooled { self.spool_taken(spool) } else { self.spool_buffered(spool) };
                if self.spool_result(kept).is_none() {
                    tokio::time::sleep(SPOOL_RETRY).await;
                }
                // The sender runs on this thread too.
                tokio::task::yield_now().await;
                continue;
            }
            self.remove_confirmed();
            let outage_begins = self.away_since.get().map(|since| since + OUTAGE_AFTER);
            let outage_begins = outage_begins.filter(|at| *at > Instant::now());
            tokio::select! {
                () = self.shared.buffer.something_to_keep() => {}
                () = tokio::time::sleep_until(outage_begins.unwrap_or_else(Instant::now)), if outage_begins.is_some() => {}
            }
        }
    }

    /// Waits until the sender has to end.
    pub(super) async fn ending(&self) {
        let mut phase = self.shared.phase.subscribe();
        let _ = phase.wait_for(|phase| *phase > Phase::Open).await;
        if *phase.borrow_and_update() == Phase::Dropped {
            let nothing_left = async {
                while self.shared.stats().left() > 0 {
                    self.shared.progress.notified().await;
                }
            };
            let ended = phase.wait_for(|phase| *phase == Phase::Ending);
            tokio::select! {
                () = nothing_left => {}
                _ = ended => {}
                () = tokio::time::sleep(DROPPED_TIMEOUT) => {}
            }
        }
    }

    /// Moves the events in memory to the spool, where there is one. Returns the `event_id`s of the events that are lost.
    pub(super) fn finish(self) -> Vec<String> {
        if let Some(spool) = &self.spool {
            self.spool_failed.set(None);
            let mut kept = self.spool_taken(spool);
            while kept.is_ok() && self.shared.buffer.waiting() > 0 {
                kept = self.spool_buffered(spool);
            }
            if let Err(error) = kept {
                tracing::error!(%error, "cannot move all remaining events to the spool: {error}");
            }
            self.remove_confirmed();
        }
        let memory = self.first.take().into_iter().chain(self.parked.take());
        let first = memory.filter(|event| event.key.is_none());
        let buffered = self.shared.buffer.take(usize::MAX, usize::MAX);
        let lost: Vec<_> =
            first.map(|event| event.message).chain(buffered).map(|of| of.event_id.clone()).collect();
        if !lost.is_empty() {
            tracing::error!(
                events = lost.len(),
                "the publisher ends with unconfirmed events, which are lost"
            );
        }
        lost
    }
}
