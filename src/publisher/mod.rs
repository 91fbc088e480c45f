//! Publishing that a workflow can forget.
//!
//! A [`Publisher`] takes events and returns at once. Checking, writing and handing an event over is all that a call
//! does; a thread of the publisher's own sends it, waits for the broker's confirm, and sends it again until there is
//! one. A call cannot fail into its caller: what cannot be stored is counted and logged, and so is what there is no
//! room for.
//!
//! ```no_run
//! use std::time::Duration;
//! use cns_events::event::{Source, WorkflowState, payload::MatchStatus};
//! use cns_events::publisher::{Publisher, PublisherConfig};
//! # use uuid::Uuid;
//! # async fn workflow(bom_id: Uuid) -> Result<(), cns_events::publisher::StartError> {
//! let config = PublisherConfig::new("amqp://user:password@127.0.0.1/%2f", "enrichment-workflow")
//!     .spool("/var/spool/enrichment-workflow");
//! let publisher = Publisher::start(config)?; // the broker may be away
//!
//! let mut workflow = publisher.workflow(bom_id, "org-123", "enrich-bom-42").source(Source::Staff);
//! workflow.log_processing_started(66);
//! workflow.set_state(&WorkflowState::running(66, 1, 0));
//! workflow.log_enrichment_progress("LM358DR", MatchStatus::Matched).confidence(0.97).supplier("DigiKey");
//! workflow.log_risk_alert("LM358DR", 84.0); // critical, as the score says
//! workflow.log_stage_completed("enrichment", Duration::from_millis(4200));
//!
//! let closed = publisher.close(Duration::from_secs(5)).await;
//! assert_eq!(closed.left, 0);
//! # Ok(())
//! # }
//! ```
//!
//! # What becomes of an event
//!
//! ```text
//!  log_…() ─▶ check, write ─▶ line in memory ───────────────────▶ in flight ─▶ confirmed
//!                │               │  ▲   half full, or an outage       │  ▲
//!             invalid            │  └─── connection lost ◀────────────┤  │
//!                              full      (first again)                │  │
//!                                │                                    │  │
//!                             dropped    spool on disk ───────────────┘──┘
//! ```
//!
//! - **Order** is kept, by one process. A message that no queue takes is put aside, so that it does not hold up the others,
//!   until 4,096 of them are aside.
//! - **Twice** is harmless: an event that is sent again has the same `event_id`, and is stored once.
//! - **Bounds**: events that are accepted and neither confirmed nor on disk are bounded in number and bytes
//!   ([`PublisherConfig::buffer`]). Beside them stand what is in flight from the spool (8 MiB), the client library's
//!   copies of what is in flight (8 MiB) and what the spool caches and writes (some 8 MiB).
//! - **Outage**: no connection, no answer, an alarm of the broker. Without a spool the newest events are dropped when
//!   the buffer is full; who would rather wait uses [`Entry::wait`] or [`Publisher::log_wait`].
//! - **Logs**: `tracing`, without bodies. The client library logs each returned message with its body as a warning: filter
//!   its target `lapin` (`lapin=off`) where bodies must not be in a log.
//! - **Kill**: what is in the spool is sent by the next publisher that is started on the same folder.
//!
//! # Deduplication keys
//!
//! Each event gets a `UUIDv7`. A step that may run again, a Temporal activity say, names its own, so that it logs once
//! however often it is retried:
//!
//! ```no_run
//! # fn activity(workflow: &cns_events::publisher::WorkflowPublisher, activity_id: &str) {
//! workflow.log_stage_started("enrichment").event_id(format!("{activity_id}/stage_started"));
//! # }
//! ```
//!
//! The key has to be the same for each attempt and different for each event: the workflow's run id, the activity's id
//! and the event's name are what a retry does not change. An attempt's number, a time or a random value is wrong in it.

mod background;
mod buffer;
#[cfg(feature = "prometheus")]
mod collector;
mod config;
mod entry;
mod in_flight;
mod outcome;
mod properties;
mod sender;
mod shared;
mod spool;
mod stats;
mod workflow;

use std::sync::Arc;
use std::time::{Duration, Instant};

use lapin::types::ShortString;
use serde::Serialize;
use uuid::Uuid;

#[cfg(feature = "prometheus")]
pub use collector::PublisherCollector;
pub use config::{PublisherConfig, SpoolWhen};
pub use entry::Entry;
pub use outcome::{CloseReport, FlushReport, LogError, StartError};
pub use stats::Stats;
pub use workflow::WorkflowPublisher;

use crate::broker::BrokerEndpoint;
use crate::event::{Event, PayloadPolicy, Rejection, Rules, Workflow};
use crate::message::EncodedEvent;
use crate::trace;
use buffer::{Buffer, BufferFull};
use shared::{Phase, Shared};

/// How long the background task may take to end when it is told to.
const END_TIMEOUT: Duration = Duration::from_secs(10);

/// Takes events, and sends them in the background. Cheap to clone; all clones are the same publisher.
///
/// When the last clone is dropped, what is left is sent for five seconds more, as long as the process lives, and goes to
/// the spool after that. Call [`close`](Publisher::close) to wait for it.
#[derive(Clone, Debug)]
pub struct Publisher {
    handle: Arc<Handle>,
}

#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    max_message_bytes: usize,
}

/// Counts an event as dropped, also where the future that waits for its room is dropped.
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
        self.shared.line.close();
        self.shared.phase.send_if_modified(|phase| {
            let open = *phase == Phase::Open;
            if open {
                *phase = Phase::Abandoned;
            }
            open
        });
    }
}

impl Publisher {
    /// Starts a publisher; it connects in the background, for ever. Returns as soon as the spool is open: what other
    /// processes have left in its folder is taken over first.
    ///
    /// # Errors
    /// Where the configuration cannot work: the URI, a name, the spool folder.
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
        let spool = spool_folder.as_ref().map(|folder| spool::Spool::open(folder, config.spool_bytes));
        let spool = spool.transpose().map_err(|error| StartError::Spool(error.to_string()))?;
        let shared = Arc::new(Shared::new(Buffer::new(events, bytes)));
        let sender = sender::Sender { broker, exchange, app_id };
        let store = background::Outbox::new(shared.clone(), spool, spool_when.unwrap_or_default());
        let (started, starting) = std::sync::mpsc::channel();
        std::thread::Builder::new().name("cns-publisher".to_owned()).spawn(move || {
            background::yield_to_callers();
            let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
                Ok(runtime) => runtime,
                Err(error) => return drop(started.send(Err(error))),
            };
            let _ = started.send(Ok(()));
            runtime.block_on(background::run(store, sender));
        })?;
        starting.recv().unwrap_or_else(|gone| Err(std::io::Error::other(gone)))?;
        Ok(Publisher { handle: Arc::new(Handle { shared, max_message_bytes }) })
    }

    /// What all events of a workflow have in common, set once. The tenant follows from the organization unless it is
    /// [set](WorkflowPublisher::tenant).
    #[must_use]
    pub fn workflow(
        &self,
        bom_id: Uuid,
        organization_id: impl Into<String>,
        workflow_id: impl Into<String>,
    ) -> WorkflowPublisher {
        WorkflowPublisher::new(self.clone(), Workflow::new(bom_id, organization_id, workflow_id))
    }

    /// Logs any event. Returns at once.
    pub fn log<P: Serialize>(&self, event: Event<'_, P>) {
        if let Ok(message) = self.write(event, trace::traceparent(), false) {
            self.accept(message);
        }
    }

    /// Logs any event, and waits for room until the deadline where there is none. Needs a tokio runtime.
    ///
    /// # Errors
    /// Why it was not accepted.
    pub async fn log_wait<P: Serialize>(
        &self,
        event: Event<'_, P>,
        deadline: Instant,
    ) -> Result<(), LogError> {
        self.accept_within(self.write(event, trace::traceparent(), false), deadline).await
    }

    fn accept(&self, message: Arc<EncodedEvent>) {
        if self.handle.shared.line.push(message).is_err() {
            self.handle.shared.dropped();
        }
    }

    /// Writes an event down. One that the worker could not store is counted, and told of.
    fn write<P: Serialize>(
        &self,
        event: Event<'_, P>,
        traceparent: Option<String>,
        typed: bool,
    ) -> Result<Arc<EncodedEvent>, Rejection> {
        let bom_id = event.bom_id;
        // A name that a caller made up may be as bad as what it names.
        let kind = event.kind().map_or("other", |kind| kind.name());
        let rules = Rules { max_message_bytes: self.handle.max_message_bytes, payload: PayloadPolicy::Warn };
        match EncodedEvent::write(event, traceparent, typed, &rules) {
            Ok((message, violation)) => {
                if let Some(violation) = violation {
                    self.handle.shared.violation(format!("{kind} of BOM {bom_id}: {violation}"));
                }
                Ok(Arc::new(message))
            }
            Err(rejection) => {
                self.refuse(kind, bom_id, &rejection);
                Err(rejection)
            }
        }
    }

    /// Counts and tells an event that cannot be stored. `kind` is none that a caller made up.
    fn refuse(&self, kind: &str, bom_id: Uuid, rejection: &Rejection) {
        self.handle.shared.invalid(format!("{kind} of BOM {bom_id}: {rejection}"));
    }

    /// Counts from now on, whether or not the future is ever polled.
    fn accept_within<'p>(
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

    /// Waits until the broker has confirmed as many events as had been accepted before this call, or until the timeout is
    /// over. Needs a tokio runtime.
    pub async fn flush(&self, timeout: Duration) -> FlushReport {
        let shared = &self.handle.shared;
        let accepted = shared.line.accepted();
        let confirmed = async {
            loop {
                let progress = shared.progress.notified();
                tokio::pin!(progress);
                progress.as_mut().enable();
                if shared.counts.confirmed.get() + shared.counts.damaged.get()
                    >= accepted + shared.counts.recovered.get()
                {
                    return;
                }
                progress.await;
            }
        };
        let _ = tokio::time::timeout(timeout, confirmed).await;
        let stats = shared.stats();
        FlushReport { confirmed: stats.confirmed, left: stats.left(), in_spool: stats.in_spool }
    }

    /// Accepts nothing any more, [flushes](Publisher::flush), and ends. What is left then is in the spool, or
    /// [lost](CloseReport::lost). Takes some seconds more than the timeout where the disk or the broker's goodbye is slow. Needs
    /// a tokio runtime.
    pub async fn close(&self, timeout: Duration) -> CloseReport {
        let shared = &self.handle.shared;
        shared.line.close();
        self.flush(timeout).await;
        let mut ended = shared.ended.subscribe();
        shared.phase.send_replace(Phase::Ending);
        let ended = tokio::time::timeout(END_TIMEOUT, ended.wait_for(Option::is_some)).await;
        let lost = ended.ok().and_then(Result::ok).and_then(|lost| lost.clone()).unwrap_or_default();
        self.closed(lost)
    }

    fn closed(&self, lost: Vec<String>) -> CloseReport {
        let stats = self.stats();
        CloseReport { confirmed: stats.confirmed, left: stats.left(), in_spool: stats.in_spool, lost }
    }

    /// [`close`](Publisher::close) for programs without async code.
    ///
    /// # Panics
    /// In async code, as everything that blocks a tokio runtime does.
    pub fn close_blocking(&self, timeout: Duration) -> CloseReport {
        match tokio::runtime::Builder::new_current_thread().enable_time().build() {
            Ok(runtime) => runtime.block_on(self.close(timeout)),
            Err(error) => {
                tracing::error!(%error, "the publisher cannot be waited for");
                self.closed(Vec::new())
            }
        }
    }

    /// What became of the events so far.
    #[must_use]
    pub fn stats(&self) -> Stats {
        self.handle.shared.stats()
    }

    /// Why nothing can be sent at the moment; `None` while the broker takes events.
    #[must_use]
    pub fn outage(&self) -> Option<String> {
        self.handle.shared.outage()
    }
}

/// Waits for room, and takes it.
async fn room_for(
    shared: &Shared,
    mut message: Arc<EncodedEvent>,
    mut unless_accepted: Dropped<'_>,
    deadline: Instant,
) -> Result<(), LogError> {
    loop {
        let room = shared.line.room.notified();
        tokio::pin!(room);
        room.as_mut().enable();
        message = match shared.line.push(message) {
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
