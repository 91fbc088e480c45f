//! Buffer of events between the callers and the publisher's thread. Callers touch nothing else.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::message::EncodedEvent;

/// Interval at which the keeper looks for events while it has to spool all of them: the events of an interval are one commit.
const KEEPER_TICK: Duration = Duration::from_millis(5);

/// Time without an event after which sender and keeper stop looking, and the next caller wakes them.
const QUIET: Duration = Duration::from_millis(100);

/// Buffer that is limited in events and bytes. Events that the sender has taken and the broker has not confirmed count too, because
/// they may return.
#[derive(Debug)]
pub(super) struct Buffer {
    state: Mutex<State>,
    max_events: usize,
    max_bytes: usize,
    /// Notified when there are events to send.
    pub(super) work: Notify,
    /// Notified when there are events to spool.
    keep: Notify,
    /// Notified when there is room again.
    pub(super) room: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Sizes and events. Reading the size from each event would be a cache miss, while callers wait for the lock.
    waiting: VecDeque<(usize, Arc<EncodedEvent>)>,
    waiting_bytes: usize,
    held: usize,
    held_bytes: usize,
    closed: bool,
    accepted: u64,
    /// Set while the keeper has to spool every event.
    spooling: bool,
    /// Set while the sender has to be woken.
    sender_sleeps: bool,
    /// Set while the keeper has to be woken.
    keeper_sleeps: bool,
}

/// Reason why an event was not accepted.
#[derive(Debug)]
pub(super) enum BufferFull {
    /// There is no room for it.
    Full(Arc<EncodedEvent>),
    /// The publisher was closed.
    Closed,
}

impl Buffer {
    pub(super) fn new(max_events: usize, max_bytes: usize) -> Self {
        Buffer {
            state: Mutex::default(),
            max_events,
            max_bytes,
            work: Notify::new(),
            keep: Notify::new(),
            room: Notify::new(),
        }
    }

    /// Takes the lock. No code panics while it holds the lock, so that a poisoned state is consistent.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Accepts an event, or returns it. Waits only for the lock of another caller.
    pub(super) fn push(&self, message: Arc<EncodedEvent>) -> Result<(), BufferFull> {
        let size = message.size();
        let (wake_sender, wake_keeper) = {
            let mut state = self.lock();
            if state.closed {
                return Err(BufferFull::Closed);
            }
            if state.held >= self.max_events || state.held_bytes + size > self.max_bytes {
                return Err(BufferFull::Full(message));
            }
            state.accepted += 1;
            state.held += 1;
            state.held_bytes += size;
            state.waiting_bytes += size;
            state.waiting.push_back((size, message));
            let wants_keeper = state.keeper_sleeps && self.keeper_wanted(&state);
            state.keeper_sleeps &= !wants_keeper;
            (std::mem::take(&mut state.sender_sleeps), wants_keeper)
        };
        if wake_sender {
            self.work.notify_one();
        }
        if wake_keeper {
            self.keep.notify_one();
        }
        Ok(())
    }

    /// Waits until there may be events to send. Looks at every tick while events keep coming: waking the sender costs a caller
    /// several microseconds.
    pub(super) async fn something_to_send(&self, tick: Duration) {
        self.look(&self.work, tick, |_| true, |state| &mut state.sender_sleeps).await;
    }

    /// Waits until there may be events to spool.
    pub(super) async fn something_to_keep(&self) {
        let wanted = |state: &State| self.keeper_wanted(state);
        self.look(&self.keep, KEEPER_TICK, wanted, |state| &mut state.keeper_sleeps).await;
    }

    /// Looks for wanted events at every tick; after [`QUIET`] without any it sleeps until `call` is notified.
    async fn look(
        &self,
        call: &Notify,
        tick: Duration,
        wanted: impl Fn(&State) -> bool,
        sleeps: impl Fn(&mut State) -> &mut bool,
    ) {
        let quiet = Instant::now() + QUIET;
        loop {
            let asleep = Instant::now() >= quiet;
            {
                let mut state = self.lock();
                if !state.waiting.is_empty() && wanted(&state) {
                    return;
                }
                *sleeps(&mut state) = asleep;
            }
            tokio::select! {
                () = call.notified() => return,
                () = tokio::time::sleep(tick), if !asleep => {}
            }
        }
    }

    /// Returns whether the keeper has to spool events: all of them, or because the buffer is half full by either limit. The other
    /// half is for the events that come while it writes.
    fn keeper_wanted(&self, state: &State) -> bool {
        let crowded = state.held > self.max_events / 2 || state.held_bytes > self.max_bytes / 2;
        !state.waiting.is_empty() && (state.spooling || crowded)
    }

    /// Returns whether there are events to spool; `spooling` is set where all of them are.
    pub(super) fn wants_keeper(&self, spooling: bool) -> bool {
        let mut state = self.lock();
        state.spooling = spooling;
        self.keeper_wanted(&state)
    }

    /// Makes the keeper look at once.
    pub(super) fn call_keeper(&self) {
        self.keep.notify_one();
    }

    /// Takes the first events, within both limits, and at least one.
    pub(super) fn take(&self, max_events: usize, max_bytes: usize) -> Vec<Arc<EncodedEvent>> {
        let mut state = self.lock();
        if state.waiting.len() <= max_events && state.waiting_bytes <= max_bytes {
            state.waiting_bytes = 0;
            let all = std::mem::take(&mut state.waiting);
            drop(state);
            return all.into_iter().map(|(_, message)| message).collect();
        }
        let mut taken = Vec::new();
        let mut bytes = 0;
        while taken.len() < max_events {
            let Some(size) = state.waiting.front().map(|(size, _)| *size) else { break };
            if bytes > 0 && bytes + size > max_bytes {
                break;
            }
            bytes += size;
            taken.extend(state.waiting.pop_front().map(|(_, message)| message));
        }
        state.waiting_bytes -= bytes;
        taken
    }

    /// Puts taken events back to the front, in their order.
    pub(super) fn put_back(&self, messages: Vec<Arc<EncodedEvent>>) {
        let sized: Vec<_> = messages.into_iter().map(|message| (message.size(), message)).collect();
        let mut state = self.lock();
        for (size, message) in sized.into_iter().rev() {
            state.waiting_bytes += size;
            state.waiting.push_front((size, message));
        }
        drop(state);
        self.work.notify_one();
        self.keep.notify_one();
    }

    /// Frees the room of taken events that are safe elsewhere.
    pub(super) fn release<'a>(&self, messages: impl IntoIterator<Item = &'a Arc<EncodedEvent>>) {
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

    /// Stops accepting events.
    pub(super) fn close(&self) {
        self.lock().closed = true;
        self.room.notify_waiters();
    }

    /// Returns the maximum events and bytes in flight: a quarter of the buffer. The rest is for waiting events.
    pub(super) fn share_in_flight(&self) -> (usize, usize) {
        ((self.max_events / 4).max(1), (self.max_bytes / 4).max(1))
    }

    /// Returns the number of events that were ever accepted.
    pub(super) fn accepted(&self) -> u64 {
        self.lock().accepted
    }

    /// Returns the number of events that wait to be taken.
    pub(super) fn waiting(&self) -> usize {
        self.lock().waiting.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::borrow::Cow;

    fn message(id: &str) -> Arc<EncodedEvent> {
        Arc::new(EncodedEvent {
            body: vec![b'x'; 100],
            routing_key: Cow::Borrowed("cns.test"),
            event_id: id.to_owned(),
            event_type: Cow::Borrowed("test"),
            priority: 0,
            timestamp: 0,
            traceparent: None,
        })
    }

    fn ids(messages: &[Arc<EncodedEvent>]) -> Vec<&str> {
        messages.iter().map(|message| message.event_id.as_str()).collect()
    }

    #[test]
    fn both_bounds_hold_until_events_are_released() {
        let line = Buffer::new(2, usize::MAX);
        line.push(message("a")).unwrap();
        line.push(message("b")).unwrap();
        assert!(matches!(line.push(message("c")), Err(BufferFull::Full(_))));
        let taken = line.take(10, usize::MAX);
        assert!(matches!(line.push(message("c")), Err(BufferFull::Full(_))), "in flight still counts");
        line.release(&taken);
        line.push(message("c")).unwrap();

        let size = message("a").size();
        let line = Buffer::new(100, size + size / 2);
        line.push(message("a")).unwrap();
        assert!(matches!(line.push(message("b")), Err(BufferFull::Full(_))));
        line.close();
        assert!(matches!(line.push(message("b")), Err(BufferFull::Closed)));
    }

    #[test]
    fn order_is_kept_by_what_comes_back() {
        let line = Buffer::new(100, usize::MAX);
        for id in ["a", "b", "c", "d"] {
            line.push(message(id)).unwrap();
        }
        let size = message("a").size();
        let taken = line.take(3, size * 2);
        assert_eq!(ids(&taken), ["a", "b"]);
        line.put_back(taken);
        assert_eq!(ids(&line.take(10, usize::MAX)), ["a", "b", "c", "d"]);
        assert_eq!((line.waiting(), line.accepted()), (0, 4));
    }

    #[test]
    fn an_event_larger_than_a_batch_is_a_batch() {
        let line = Buffer::new(10, usize::MAX);
        line.push(message("a")).unwrap();
        line.push(message("b")).unwrap();
        assert_eq!(line.take(10, 1).len(), 1);
    }
}
