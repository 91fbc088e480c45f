//! Flow control of one session: the messages to send next, and what their confirms mean.
//!
//! The first message is sent alone. Only after its confirm there is more than one in flight, so that a broker that takes nothing (no
//! queue, an alarm) gets one message and not thousands. A message that it does not take is parked together with the others of its
//! routing key.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::in_flight::{Ended, InFlight, Judged};
use super::outbox::{OUTAGE_AFTER, Outbox};
use super::parked::Parked;
use crate::backoff::Backoff;
use crate::message::EncodedEvent;

/// Maximum messages in flight: enough to hide the broker's fsync many times over.
const WINDOW_EVENTS: usize = 4096;

/// Maximum bytes in flight, or one message: the client library copies them into frames.
const WINDOW_BYTES: usize = 8 * 1024 * 1024;

/// Pause after a look into the outbox that found a few events: each look takes processor time from the callers.
const TICK: Duration = Duration::from_millis(1);

/// Pause after a look that found many events.
const BUSY_TICK: Duration = Duration::from_millis(4);

/// Events of one look that are many.
const BUSY_EVENTS: usize = 8;

/// Time without any confirm after which the session ends.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(30);

/// The broker has not confirmed anything for [`CONFIRM_TIMEOUT`].
#[derive(Debug, thiserror::Error)]
#[error("no confirm within {} s", CONFIRM_TIMEOUT.as_secs())]
pub(super) struct Silence;

/// Flow control of one session.
pub(super) struct Flow<'s> {
    outbox: &'s Outbox,
    in_flight: &'s mut InFlight,
    backoff: &'s mut Backoff,
    parked: Parked<'s>,
    max_events: usize,
    max_bytes: usize,
    /// Maximum messages in flight at the moment.
    window: usize,
    next_look: Instant,
    last_confirm: Instant,
}

impl<'s> Flow<'s> {
    pub(super) fn new(outbox: &'s Outbox, in_flight: &'s mut InFlight, backoff: &'s mut Backoff) -> Self {
        let (events, bytes) = outbox.shared.buffer.share_in_flight();
        Flow {
            parked: Parked::new(outbox),
            outbox,
            in_flight,
            backoff,
            max_events: events.min(WINDOW_EVENTS),
            max_bytes: bytes.min(WINDOW_BYTES),
            window: 1,
            next_look: Instant::now(),
            last_confirm: Instant::now(),
        }
    }

    /// Returns the number and bytes of messages that may be sent now, unless there is no room.
    fn room(&self) -> Option<(usize, usize)> {
        let window = if self.outbox.refused.one_at_a_time() { 1 } else { self.window };
        let events = window.saturating_sub(self.in_flight.events());
        let bytes = self.max_bytes.saturating_sub(self.in_flight.bytes());
        (events > 0 && bytes > 0 && !self.parked.is_full()).then_some((events, bytes))
    }

    /// Takes the messages to send now, each with its number, and counts them as in flight.
    pub(super) fn take_due(&mut self) -> Vec<(u64, Arc<EncodedEvent>)> {
        if self.in_flight.events() == 0 {
            self.last_confirm = Instant::now();
        }
        let room = self.room();
        let mut due = if self.outbox.refused.one_at_a_time() { Vec::new() } else { self.parked.due() };
        if let Some((events, bytes)) = room
            && self.next_look <= Instant::now()
        {
            let next = self.outbox.next(events, bytes);
            if !next.is_empty() {
                self.next_look = Instant::now() + if next.len() < BUSY_EVENTS { TICK } else { BUSY_TICK };
            }
            let taken = next.len();
            let next = self.parked.park_by_key(next);
            if next.len() < taken {
                self.next_look = Instant::now(); // parked messages do not count as sent
            }
            due.extend(next);
        }
        let numbered = due.into_iter().map(|outbound| {
            let message = outbound.message.clone();
            (self.in_flight.add(outbound), message)
        });
        let numbered = numbered.collect();
        self.outbox.shared.counts.in_flight.set(self.in_flight.events());
        numbered
    }

    /// Waits until there may be messages to send. Cancel-safe.
    pub(super) async fn wait(&self) -> Result<(), Silence> {
        let has_room = self.room().is_some();
        let early = self.next_look > Instant::now();
        let waits = self.in_flight.events() > 0;
        let silent_for = self.last_confirm.elapsed();
        let next_attempt = self.parked.next_attempt();
        tokio::select! {
            biased;
            () = self.outbox.something_to_send(TICK), if has_room && !early => {
                tokio::task::yield_now().await;
                Ok(())
            }
            () = tokio::time::sleep_until(self.next_look), if has_room && early => Ok(()),
            () = tokio::time::sleep_until(next_attempt.unwrap_or_else(Instant::now)), if next_attempt.is_some() => Ok(()),
            () = tokio::time::sleep(OUTAGE_AFTER.saturating_sub(silent_for)), if waits && silent_for < OUTAGE_AFTER => {
                self.outbox.away("the broker does not confirm", self.last_confirm);
                Ok(())
            }
            () = tokio::time::sleep_until(self.last_confirm + CONFIRM_TIMEOUT), if waits => Err(Silence),
            else => std::future::pending().await,
        }
    }

    /// Records the outcomes of messages. Returns the error where the channel is lost.
    pub(super) fn settle(&mut self, ended: Vec<Ended>) -> Option<lapin::Error> {
        let Judged { confirmed, returned, refused, reason, lost } = self.in_flight.judge(ended);
        returned.iter().for_each(|_| self.outbox.shared.returned(reason.clone()));
        self.outbox.refused.cleared(confirmed.len() + returned.len() + refused.len());
        if !confirmed.is_empty() {
            self.last_confirm = Instant::now();
            self.window = self.max_events;
            self.outbox.reached();
            self.outbox.confirmed(&confirmed);
            self.parked.release(&confirmed);
            if self.parked.is_empty() {
                *self.backoff = Backoff::default();
            }
        } else if !returned.is_empty() {
            self.window = 1;
            let reason = "no queue takes the messages: start a worker, which declares it";
            self.outbox.away(reason, self.last_confirm);
        } else if !refused.is_empty() {
            self.window = 1;
            self.outbox.away("the broker refuses the messages (nack)", self.last_confirm);
        }
        self.parked.put(returned.into_iter().chain(refused), self.backoff);
        lost
    }
}
