//! The publisher as callers hold it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use lapin::types::ShortString;
use serde::Serialize;
use uuid::Uuid;

use super::buffer::{Buffer, BufferFull};
use super::config::PublisherConfig;
use super::outbox::Outbox;
use super::outcome::{CloseReport, FlushReport, LogError, StartError};
use super::refused::Refused;
use super::sender::Sender;
use super::shared::{Phase, Shared};
use super::spool::Spool;
use super::stats::Stats;
use super::thread;
use crate::broker::BrokerEndpoint;
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
    /// taken over the files of processes that ended.
    ///
    /// # Errors
    /// The configuration cannot be used: the URI, a name or the spool folder.
    pub fn start(config: PublisherConfig) -> Result<Self, StartError> {
        let PublisherConfig { uri, app_id, exchange, max_message_bytes, spool_folder, spool_when, .. } =
            config;
        let (events, bytes) = (config.buffer_events, config.buffer_bytes);
        if events == 0 || bytes < max_message_bytes {
            return Err(StartError::Buffer { events, bytes, max_message_bytes });
        }
        if spool_when.is_some() && spool_folder.is_none() {
            return Err(StartError::NoSpool);
        }
        let bytes_of_spool = usize::try_from(config.spool_bytes).unwrap_or(usize::MAX);
        if spool_folder.is_some() && bytes_of_spool < max_message_bytes {
            return Err(StartError::Buffer { events, bytes: bytes_of_spool, max_message_bytes });
        }
        let broker = BrokerEndpoint::new(&uri, &app_id)?;
        let short = |what, text: &str| ShortString::try_new(text).map_err(|_| StartError::TooLong(what));
        let exchange = short("the exchange's name", &exchange)?;
        let app_id = short("app_id", &app_id)?;
        let spool = spool_folder.as_ref().map(|folder| Spool::open(folder, config.spool_bytes));
        let spool = spool.transpose().map_err(|error| StartError::Spool(error.to_string()))?;
        let shared = Arc::new(Shared::new(Buffer::new(events, bytes)));
        let sender = Sender { broker, exchange, app_id };
        let refused = Refused::new(spool_folder.as_deref(), config.spool_bytes);
        let outbox = Outbox::new(shared.clone(), spool, refused, spool_when.unwrap_or_default());
        let (started, starting) = std::sync::mpsc::channel();
        std::thread::Builder::new().name("cns-publisher".to_owned()).spawn(move || {
            thread::yield_to_callers();
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(started.send(Err(error))),
            };
            let _ = started.send(Ok(()));
            runtime.block_on(thread::run(outbox, sender));
        })?;
        starting.recv().unwrap_or_else(|gone| Err(std::io::Error::other(gone)))?;
        Ok(Publisher { handle: Arc::new(Handle { shared, max_message_bytes }) })
    }

    /// Logs an event of any type. Returns immediately.
    pub fn log<P: Serialize>(&self, event: Event<'_, P>) {
        if let Ok(message) = self.write(event, trace::traceparent(), false) {
            self.accept(message);
        }
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

    pub(super) fn accept(&self, message: Arc<EncodedEvent>) {
        if self.handle.shared.buffer.push(message).is_err() {
            self.handle.shared.dropped();
        }
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
