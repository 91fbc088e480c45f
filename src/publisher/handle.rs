//! The publisher as callers hold it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::Serialize;
use uuid::Uuid;

use super::buffer::BufferFull;
use super::config::PublisherConfig;
use super::outcome::{CloseReport, FlushReport, LogError, StartError};
use super::shared::{Phase, Shared};
use super::start::start;
use super::stats::Stats;
use crate::event::{Event, PayloadPolicy, Rejection, Rules};
use crate::message::EncodedEvent;
use crate::trace;

/// Timeout of the thread's end after a close.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// Accepts events and sends them in the background. Cheap to clone; all clones are the same publisher.
///
/// After the last clone is dropped, the remaining events are sent for five seconds, while the process lives, and then moved to the
/// spool. [`close`](Publisher::close) waits for that.
#[derive(Clone, Debug)]
pub struct Publisher {
    handle: Arc<Handle>,
}

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    max_message_bytes: usize,
}

/// Counts an event as dropped when it is dropped, so that a caller's cancelled future counts too.
struct Dropped<'a>(Option<&'a Shared>);

impl Drop for Dropped<'_> {
    fn drop(&mut self) {
        if let Some(shared) = self.0 {
            shared.dropped();
        }
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.buffer.close();
        self.shared.phase.send_if_modified(|phase| {
            let open = *phase == Phase::Open;
            if open {
                *phase = Phase::Dropped;
            }
            open
        });
    }
}

impl Publisher {
    /// Starts a publisher, which connects in the background and reconnects without limit. Returns when the spool is open and has
    /// taken over the files of processes that ended, unless it is to be [opened later](PublisherConfig::open_spool_later).
    ///
    /// # Errors
    /// The configuration cannot be used: the URI, a name or the spool folder.
    pub fn start(config: PublisherConfig) -> Result<Self, StartError> {
        let max_message_bytes = config.max_message_bytes;
        let shared = start(config)?;
        Ok(Publisher { handle: Arc::new(Handle { shared, max_message_bytes }) })
    }

    /// Logs an event of any type. Returns immediately.
    pub fn log<P: Serialize>(&self, event: Event<'_, P>) {
        let _ = self.try_log(event, trace::traceparent()); // it is counted and logged
    }

    /// Logs an event of any type, and returns immediately.
    ///
    /// # Errors
    /// The event was not accepted. It is counted and logged.
    pub fn try_log<P: Serialize>(
        &self,
        event: Event<'_, P>,
        traceparent: Option<String>,
    ) -> Result<(), LogError> {
        self.try_send(self.encode(event, traceparent)?)
    }

    /// Encodes an event without sending it, for a caller that [sends](Publisher::try_send) it later.
    ///
    /// # Errors
    /// A worker could not store the event. It is counted and logged.
    pub fn encode<P: Serialize>(
        &self,
        event: Event<'_, P>,
        traceparent: Option<String>,
    ) -> Result<Arc<EncodedEvent>, Rejection> {
        self.write(event, traceparent, false)
    }

    /// Sends an encoded event, and returns immediately.
    ///
    /// # Errors
    /// The event was not accepted. It is counted and logged.
    pub fn try_send(&self, message: Arc<EncodedEvent>) -> Result<(), LogError> {
        self.handle.shared.buffer.push(message).map_err(|refused| {
            self.handle.shared.dropped();
            match refused {
                BufferFull::Full(_) => LogError::NoRoom,
                BufferFull::Closed => LogError::Closed,
            }
        })
    }

    /// Logs an event of any type, and waits for room in the buffer until the deadline. Needs a tokio runtime.
    ///
    /// # Errors
    /// The event was not accepted.
    pub async fn log_wait<P: Serialize>(
        &self,
        event: Event<'_, P>,
        deadline: Instant,
    ) -> Result<(), LogError> {
        self.accept_within(self.write(event, trace::traceparent(), false), deadline).await
    }

    /// Encodes an event. An event that a worker could not store is counted and logged.
    pub(super) fn write<P: Serialize>(
        &self,
        event: Event<'_, P>,
        traceparent: Option<String>,
        typed: bool,
    ) -> Result<Arc<EncodedEvent>, Rejection> {
        let bom_id = event.bom_id;
        // A type that the contract does not name may contain anything, and is not logged.
        let event_type = event.known_type().map_or("other", |event_type| event_type.name());
        let rules = Rules { max_message_bytes: self.handle.max_message_bytes, payload: PayloadPolicy::Warn };
        match EncodedEvent::write(event, traceparent, typed, &rules) {
            Ok((message, violation)) => {
                if let Some(violation) = violation {
                    self.handle.shared.violation(format!("{event_type} of BOM {bom_id}: {violation}"));
                }
                Ok(Arc::new(message))
            }
            Err(rejection) => {
                self.refuse(event_type, bom_id, &rejection);
                Err(rejection)
            }
        }
    }

    /// Counts and logs an event that cannot be stored. `event_type` is a name of the contract.
    pub(super) fn refuse(&self, event_type: &str, bom_id: Uuid, rejection: &Rejection) {
        self.handle.shared.invalid(format!("{event_type} of BOM {bom_id}: {rejection}"));
    }

    /// Accepts an event within the deadline. It counts from now on, even if the future is never polled.
    pub(super) fn accept_within<'p>(
        &'p self,
        message: Result<Arc<EncodedEvent>, Rejection>,
        deadline: Instant,
    ) -> impl Future<Output = Result<(), LogError>> + use<'p> {
        let shared = &*self.handle.shared;
        let waiting = message.map(|message| (message, Dropped(Some(shared))));
        async move {
            let (message, unless_accepted) = waiting?;
            room_for(shared, message, unless_accepted, deadline).await
        }
    }

    /// Waits until the broker has confirmed as many events as were accepted before this call, or until the timeout. Needs a tokio
    /// runtime.
    pub async fn flush(&self, timeout: Duration) -> FlushReport {
        let shared = &self.handle.shared;
        let accepted = shared.buffer.accepted();
        let confirmed = async {
            loop {
                let progress = shared.progress.notified();
                tokio::pin!(progress);
                progress.as_mut().enable();
                let counts = &shared.counts;
                if counts.confirmed.get() + counts.rejected.get() + counts.damaged.get()
                    >= accepted + shared.counts.recovered.get()
                {
                    return;
                }
                progress.await;
            }
        };
        let _ = tokio::time::timeout(timeout, confirmed).await;
        let stats = shared.stats();
        let Stats { confirmed, rejected, in_spool, .. } = stats;
        FlushReport { confirmed, rejected, left: stats.left(), in_spool }
    }

    /// Stops accepting events, [flushes](Publisher::flush), and ends. The remaining events are in the spool, or
    /// [lost](CloseReport::lost). Takes a few seconds more than the timeout where the disk or the broker is slow. Needs a tokio
    /// runtime.
    pub async fn close(&self, timeout: Duration) -> CloseReport {
        let shared = &self.handle.shared;
        shared.buffer.close();
        self.flush(timeout).await;
        let mut ended = shared.ended.subscribe();
        shared.phase.send_replace(Phase::Ending);
        let ended = tokio::time::timeout(END_TIMEOUT, ended.wait_for(Option::is_some)).await;
        let lost = ended.ok().and_then(Result::ok).and_then(|lost| lost.clone()).unwrap_or_default();
        self.closed(lost)
    }

    fn closed(&self, lost: Vec<String>) -> CloseReport {
        let stats = self.stats();
        let Stats { confirmed, rejected, in_spool, .. } = stats;
        CloseReport { confirmed, rejected, left: stats.left(), in_spool, lost }
    }

    /// Does the same as [`close`](Publisher::close), for programs without async code.
    ///
    /// # Panics
    /// In async code, because it blocks a tokio runtime.
    pub fn close_blocking(&self, timeout: Duration) -> CloseReport {
        match tokio::runtime::Builder::new_current_thread().enable_time().build() {
            Ok(runtime) => runtime.block_on(self.close(timeout)),
            Err(error) => {
                tracing::error!(%error, "cannot wait for the publisher");
                self.closed(Vec::new())
            }
        }
    }

    /// Returns the counts of events so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.handle.shared.stats()
    }

    /// Returns the reason why nothing can be sent at the moment; `None` while the broker takes events.
    #[must_use]
    pub fn outage(&self) -> Option<String> {
        self.handle.shared.outage()
    }
}

/// Waits for room in the buffer, and takes it.
async fn room_for(
    shared: &Shared,
    mut message: Arc<EncodedEvent>,
    mut unless_accepted: Dropped<'_>,
    deadline: Instant,
) -> Result<(), LogError> {
    loop {
        let room = shared.buffer.room.notified();
        tokio::pin!(room);
        room.as_mut().enable();
        message = match shared.buffer.push(message) {
            Ok(()) => {
                unless_accepted.0 = None;
                return Ok(());
            }
            Err(BufferFull::Closed) => return Err(LogError::Closed),
            Err(BufferFull::Full(message)) => message,
        };
        if tokio::time::timeout_at(deadline.into(), room).await.is_err() {
            return Err(LogError::NoRoom);
        }
    }
}
