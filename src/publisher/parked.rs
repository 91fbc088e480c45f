//! Messages that the broker did not take, and the time of the next attempt.

use std::borrow::Cow;
use std::collections::HashSet;

use tokio::time::Instant;

use super::in_flight::Outbound;
use super::outbox::Outbox;
use crate::backoff::Backoff;

/// Maximum parked messages: memory is limited, so that the others wait too when this many are parked.
const MAX_PARKED: usize = 4096;

/// Parked messages of one session.
pub(super) struct Parked<'s> {
    outbox: &'s Outbox,
    /// Routing keys of parked messages. The route of a message depends on its routing key alone.
    keys: HashSet<Cow<'static, str>>,
    next_attempt: Option<Instant>,
}

impl<'s> Parked<'s> {
    pub(super) fn new(outbox: &'s Outbox) -> Self {
        Parked { outbox, keys: HashSet::new(), next_attempt: None }
    }

    /// Returns whether no routing key is parked.
    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Returns the time of the next attempt, where there is one.
    pub(super) fn next_attempt(&self) -> Option<Instant> {
        self.next_attempt
    }

    /// Parks messages that were not taken, each before the others of its key.
    pub(super) fn put(&mut self, messages: impl DoubleEndedIterator<Item = Outbound>, backoff: &mut Backoff) {
        let mut parked = self.outbox.parked.borrow_mut();
        for outbound in messages.rev() {
            self.keys.insert(outbound.message.routing_key.clone());
            parked.push_front(outbound);
        }
        if !parked.is_empty() && self.next_attempt.is_none() {
            self.next_attempt = Some(Instant::now() + backoff.next_delay());
        }
    }

    /// Returns the messages that may be sent. Messages of a parked key are parked behind the others of that key.
    pub(super) fn park_by_key(&self, messages: Vec<Outbound>) -> Vec<Outbound> {
        if self.keys.is_empty() {
            return messages;
        }
        let held = |outbound: &Outbound| self.keys.contains(&outbound.message.routing_key);
        let (held, free): (Vec<_>, Vec<_>) = messages.into_iter().partition(held);
        self.outbox.parked.borrow_mut().extend(held);
        free
    }

    /// Returns the first message of each key, if the next attempt is due.
    pub(super) fn due(&mut self) -> Vec<Outbound> {
        if self.next_attempt.is_none_or(|at| at > Instant::now()) {
            return Vec::new();
        }
        self.next_attempt = None;
        let mut attempted = HashSet::new();
        let mut parked = self.outbox.parked.borrow_mut();
        let all = std::mem::take(&mut *parked).into_iter();
        let (due, rest): (Vec<_>, Vec<_>) =
            all.partition(|outbound| attempted.insert(outbound.message.routing_key.clone()));
        parked.extend(rest);
        self.outbox.shared.counts.resent.add(due.len());
        due
    }

    /// Returns the messages of confirmed keys to the outbox.
    pub(super) fn release(&mut self, confirmed: &[Outbound]) {
        let freed =
            confirmed.iter().filter(|outbound| self.keys.remove(&outbound.message.routing_key)).count();
        if freed == 0 {
            return;
        }
        let mut parked = self.outbox.parked.borrow_mut();
        let all = std::mem::take(&mut *parked).into_iter();
        let (held, free): (Vec<_>, Vec<_>) =
            all.partition(|outbound| self.keys.contains(&outbound.message.routing_key));
        parked.extend(held);
        self.outbox.first(free);
    }

    /// Returns whether the limit is reached.
    pub(super) fn is_full(&self) -> bool {
        self.outbox.parked.borrow().len() >= MAX_PARKED
    }
}

/// The next session sends them again.
impl Drop for Parked<'_> {
    fn drop(&mut self) {
        let parked = std::mem::take(&mut *self.outbox.parked.borrow_mut());
        self.outbox.first(parked.into());
    }
}
