//! The line in which events wait for the background task: the one thing that callers touch.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use crate::message::Outgoing;

/// Bounded in events and bytes. What the sender has taken and the broker has not confirmed still counts: it may
/// have to come back.
#[derive(Debug)]
pub(super) struct Line {
    state: Mutex<State>,
    max_events: usize,
    max_bytes: usize,
    /// Whether the keeper wants to know of every event.
    spooling: AtomicBool,
    /// There is something to send.
    pub(super) work: Notify,
    /// There is something to spool.
    pub(super) keep: Notify,
    /// There is room again.
    pub(super) room: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Arc<Outgoing>>,
    waiting_bytes: usize,
    held: usize,
    held_bytes: usize,
    closed: bool,
}

/// An event was not accepted.
#[derive(Debug)]
pub(super) enum NoPlace {
    /// There is no room for it.
    Full(Arc<Outgoing>),
    /// The publisher was closed.
    Closed,
}

impl Line {
    pub(super) fn new(max_events: usize, max_bytes: usize) -> Self {
        Line {
            state: Mutex::default(),
            max_events,
            max_bytes,
            spooling: AtomicBool::new(false),
            work: Notify::new(),
            keep: Notify::new(),
            room: Notify::new(),
        }
    }

    /// Nothing here panics while it holds the lock, so that what it guards is whole even then.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Accepts an event, or gives it back. Never waits for anything but another caller.
    pub(super) fn push(&self, message: Arc<Outgoing>) -> Result<(), NoPlace> {
        let size = message.size();
        let crowded = {
            let mut state = self.lock();
            if state.closed {
                return Err(NoPlace::Closed);
            }
            if state.held >= self.max_events || state.held_bytes + size > self.max_bytes {
                return Err(NoPlace::Full(message));
            }
            state.held += 1;
            state.held_bytes += size;
            state.waiting_bytes += size;
            state.waiting.push_back(message);
            self.crowded(&state)
        };
        self.work.notify_one();
        if crowded || self.spooling.load(Ordering::Relaxed) {
            self.keep.notify_one();
        }
        Ok(())
    }

    /// Half of either bound: the spool needs the other half for what comes while it writes.
    fn crowded(&self, state: &State) -> bool {
        state.waiting.len() > self.max_events / 2 || state.waiting_bytes > self.max_bytes / 2
    }

    pub(super) fn is_crowded(&self) -> bool {
        self.crowded(&self.lock())
    }

    /// Whether every event is the keeper's.
    pub(super) fn set_spooling(&self, spooling: bool) {
        self.spooling.store(spooling, Ordering::Relaxed);
        self.keep.notify_one();
    }

    /// Takes the first events, within both limits; the first of them whatever its size.
    pub(super) fn take(&self, max_events: usize, max_bytes: usize) -> Vec<Arc<Outgoing>> {
        let mut state = self.lock();
        if state.waiting.len() <= max_events && state.waiting_bytes <= max_bytes {
            state.waiting_bytes = 0;
            return std::mem::take(&mut state.waiting).into();
        }
        let mut taken = Vec::new();
        let mut bytes = 0;
        while taken.len() < max_events {
            let Some(size) = state.waiting.front().map(|message| message.size()) else { break };
            if bytes > 0 && bytes + size > max_bytes {
                break;
            }
            bytes += size;
            taken.extend(state.waiting.pop_front());
        }
        state.waiting_bytes -= bytes;
        taken
    }

    /// Puts taken events back to where they were. Their order is theirs.
    pub(super) fn put_back(&self, messages: Vec<Arc<Outgoing>>) {
        let mut state = self.lock();
        for message in messages.into_iter().rev() {
            state.waiting_bytes += message.size();
            state.waiting.push_front(message);
        }
        drop(state);
        self.work.notify_one();
        self.keep.notify_one();
    }

    /// Puts a taken event at the end, so that it does not hold up the others.
    pub(super) fn put_last(&self, message: Arc<Outgoing>) {
        let mut state = self.lock();
        state.waiting_bytes += message.size();
        state.waiting.push_back(message);
    }

    /// Taken events are safe elsewhere: their room is free.
    pub(super) fn release<'a>(&self, messages: impl IntoIterator<Item = &'a Arc<Outgoing>>) {
        let (mut events, mut bytes) = (0, 0);
        for message in messages {
            events += 1;
            bytes += message.size();
        }
        if events > 0 {
            let mut state = self.lock();
            state.held -= events;
            state.held_bytes -= bytes;
            drop(state);
            self.room.notify_waiters();
        }
    }

    /// Accepts nothing any more.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.room.notify_waiters();
    }

    /// How many wait to be taken.
    pub(super) fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::borrow::Cow;

    fn message(id: &str) -> Arc<Outgoing> {
        Arc::new(Outgoing {
            body: vec![b'x'; 100],
            routing_key: Cow::Borrowed("cns.test"),
            event_id: id.to_owned(),
            event_type: Cow::Borrowed("test"),
            priority: 0,
            timestamp: 0,
            traceparent: None,
        })
    }

    fn ids(messages: &[Arc<Outgoing>]) -> Vec<&str> {
        messages.iter().map(|message| message.event_id.as_str()).collect()
    }

    #[test]
    fn both_bounds_hold_until_events_are_released() {
        let line = Line::new(2, usize::MAX);
        line.push(message("a")).unwrap();
        line.push(message("b")).unwrap();
        assert!(matches!(line.push(message("c")), Err(NoPlace::Full(_))));
        let taken = line.take(10, usize::MAX);
        assert!(matches!(line.push(message("c")), Err(NoPlace::Full(_))), "in flight still counts");
        line.release(&taken);
        line.push(message("c")).unwrap();

        let size = message("a").size();
        let line = Line::new(100, size + size / 2);
        line.push(message("a")).unwrap();
        assert!(matches!(line.push(message("b")), Err(NoPlace::Full(_))));
        line.close();
        assert!(matches!(line.push(message("b")), Err(NoPlace::Closed)));
    }

    #[test]
    fn order_is_kept_by_what_comes_back() {
        let line = Line::new(100, usize::MAX);
        for id in ["a", "b", "c", "d"] {
            line.push(message(id)).unwrap();
        }
        let size = message("a").size();
        let mut taken = line.take(3, size * 2);
        assert_eq!(ids(&taken), ["a", "b"]);
        line.put_last(taken.remove(0));
        line.put_back(taken);
        assert_eq!(ids(&line.take(10, usize::MAX)), ["b", "c", "d", "a"]);
        assert_eq!(line.waiting(), 0);
    }

    #[test]
    fn an_event_larger_than_a_batch_is_a_batch() {
        let line = Line::new(10, usize::MAX);
        line.push(message("a")).unwrap();
        line.push(message("b")).unwrap();
        assert_eq!(line.take(10, 1).len(), 1);
    }
}
