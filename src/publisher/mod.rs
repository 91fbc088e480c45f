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
//! - **Order** is kept. A message that no queue takes goes to the end, so that it does not hold up the others.
//! - **Twice** is harmless: an event that is sent again has the same `event_id`, and is stored once.
//! - **Bounds**: events that are accepted and neither confirmed nor on disk are bounded in number and bytes
//!   ([`PublisherConfig::buffer`]). Beside them stand what is in flight from the spool (8 MiB), the client library's
//!   copies of what is in flight (8 MiB) and the spool's cache (8 MiB).
//! - **Outage**: no connection, no answer, an alarm of the broker. Without a spool the newest events are dropped when
//!   the buffer is full; who would rather wait uses [`Entry::wait`] or [`Publisher::log_wait`].
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
#[cfg(feature = "prometheus")]
mod collector;
mod config;
mod entry;
mod flight;
mod line;
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
pub use stats::Stats;
pub use workflow::WorkflowPublisher;

use crate::broker::{Broker, UriError};
use crate::event::{Event, PayloadPolicy, Rejection, Rules, Workflow};
use crate::message::Outgoing;
use crate::trace;
use line::{Line, NoPlace};
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

/// A publisher cannot be started as it is configured. That the broker is away is no reason.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The broker's URI.
    #[error("the broker's URI {0}")]
    Uri(#[from] UriError),
    /// A name longer than the 255 bytes that AMQP has for it.
    #[error("{0} has more than 255 bytes")]
    TooLong(&'static str),
    /// The spool folder, or the file in it.
    #[error("the spool cannot be used: {0}")]
    Spool(String),
    /// The system gives no thread.
    #[error("the publisher's thread cannot be started: {0}")]
    Thread(#[from] std::io::Error),
}

/// An event was not logged.
#[derive(Debug, thiserror::Error)]
pub enum NotLogged {
    /// The worker could not store it.
    #[error(transparent)]
    Invalid(#[from] Rejection),
    /// There was no room for it until the deadline.
    #[error("there was no room for the event until the deadline")]
    NoRoom,
    /// The publisher was closed.
    #[error("the publisher was closed")]
    Closed,
}

/// What [`Publisher::flush`] and [`Publisher::close`] leave behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flushed {
    /// Events that the broker has confirmed since the publisher was started.
    pub confirmed: u64,
    /// Events that are accepted and not confirmed, those in the spool included.
    pub left: u64,
    /// Of those, the events that are in the spool, and will be sent by the next publisher on the same folder.
    pub in_spool: u64,
    /// After [`close`](Publisher::close): the `event_id`s of those that are in no spool either. They are lost to this
    /// publisher; whoever has them may publish them again.
    pub lost: Vec<String>,
}

impl Publisher {
    /// Starts a publisher and returns at once; it connects in the background, for ever.
    ///
    /// # Errors
    /// Where the configuration cannot work: the URI, a name, the spool folder.
    pub fn start(config: PublisherConfig) -> Result<Self, StartError> {
        let PublisherConfig { uri, app_id, exchange, max_message_bytes, spool_folder, spool_when, .. } =
            config;
        let broker = Broker::new(&uri, &app_id)?;
        let short = |what, text: &str| ShortString::try_new(text).map_err(|_| StartError::TooLong(what));
        let exchange = short("the exchange's name", &exchange)?;
        let app_id = short("app_id", &app_id)?;
        let spool = spool_folder.as_ref().map(|folder| spool::Spool::open(folder, config.spool_bytes));
        let spool = spool.transpose().map_err(|error| StartError::Spool(error.to_string()))?;
        let shared = Arc::new(Shared::new(Line::new(config.buffer_events, config.buffer_bytes)));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let sender = sender::Sender { broker, exchange, app_id };
        let store = background::Store::new(shared.clone(), spool, spool_when);
        std::thread::Builder::new().name("cns-publisher".to_owned()).spawn(move || {
            background::yield_to_callers();
            runtime.block_on(background::run(store, sender));
        })?;
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
        self.accept(event, trace::traceparent(), false);
    }

    /// Logs any event, and waits for room until the deadline where there is none. Needs a tokio runtime.
    ///
    /// # Errors
    /// Why it was not accepted.
    pub async fn log_wait<P: Serialize>(
        &self,
        event: Event<'_, P>,
        deadline: Instant,
    ) -> Result<(), NotLogged> {
        let message = self.write(event, trace::traceparent(), false);
        self.accept_within(message, deadline).await
    }

    fn accept<P: Serialize>(&self, event: Event<'_, P>, traceparent: Option<String>, typed: bool) {
        let Ok(message) = self.write(event, traceparent, typed) else { return };
        let shared = &self.handle.shared;
        match shared.line.push(message) {
            Ok(()) => shared.counts.accepted.add(1),
            Err(_) => shared.dropped(),
        }
    }

    /// Writes an event down. One that the worker could not store is counted, and told of.
    fn write<P: Serialize>(
        &self,
        event: Event<'_, P>,
        traceparent: Option<String>,
        typed: bool,
    ) -> Result<Arc<Outgoing>, Rejection> {
        let bom_id = event.bom_id;
        // A name that a caller made up may be as bad as what it names.
        let kind = event.kind().map_or("other", |kind| kind.name());
        let rules = Rules { max_message_bytes: self.handle.max_message_bytes, payload: PayloadPolicy::Warn };
        match Outgoing::write(event, traceparent, typed, &rules) {
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

    fn refuse(&self, kind: &str, bom_id: Uuid, rejection: &Rejection) {
        self.handle.shared.invalid(format!("{kind} of BOM {bom_id}: {rejection}"));
    }

    async fn accept_within(
        &self,
        message: Result<Arc<Outgoing>, Rejection>,
        deadline: Instant,
    ) -> Result<(), NotLogged> {
        let shared = &self.handle.shared;
        let mut message = message?;
        loop {
            let room = shared.line.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            message = match shared.line.push(message) {
                Ok(()) => {
                    shared.counts.accepted.add(1);
                    return Ok(());
                }
                Err(NoPlace::Closed) => {
                    shared.dropped();
                    return Err(NotLogged::Closed);
                }
                Err(NoPlace::Full(message)) => message,
            };
            if tokio::time::timeout_at(deadline.into(), room).await.is_err() {
                shared.dropped();
                return Err(NotLogged::NoRoom);
            }
        }
    }

    /// Waits until the broker has confirmed all that was accepted before this call, or until the timeout is over.
    /// Needs a tokio runtime.
    pub async fn flush(&self, timeout: Duration) -> Flushed {
        let shared = &self.handle.shared;
        let accepted = shared.counts.accepted.get();
        let confirmed = async {
            loop {
                let progress = shared.progress.notified();
                tokio::pin!(progress);
                progress.as_mut().enable();
                if shared.counts.confirmed.get() >= accepted + shared.counts.recovered.get() {
                    return;
                }
                progress.await;
            }
        };
        let _ = tokio::time::timeout(timeout, confirmed).await;
        let stats = shared.stats();
        Flushed { confirmed: stats.confirmed, left: stats.left(), in_spool: stats.in_spool, lost: Vec::new() }
    }

    /// Accepts nothing any more, [flushes](Publisher::flush), and ends. What is left then is in the spool, or
    /// [lost](Flushed::lost). Needs a tokio runtime.
    pub async fn close(&self, timeout: Duration) -> Flushed {
        let shared = &self.handle.shared;
        shared.line.close();
        self.flush(timeout).await;
        let mut ended = shared.ended.subscribe();
        shared.phase.send_replace(Phase::Ending);
        let ended = tokio::time::timeout(END_TIMEOUT, ended.wait_for(Option::is_some)).await;
        let lost = ended.ok().and_then(Result::ok).and_then(|lost| lost.clone()).unwrap_or_default();
        let stats = shared.stats();
        Flushed { confirmed: stats.confirmed, left: stats.left(), in_spool: stats.in_spool, lost }
    }

    /// [`close`](Publisher::close) for programs without async code.
    ///
    /// # Panics
    /// In async code, as everything that blocks a tokio runtime does.
    #[must_use]
    pub fn close_blocking(&self, timeout: Duration) -> Flushed {
        match tokio::runtime::Builder::new_current_thread().enable_time().build() {
            Ok(runtime) => runtime.block_on(self.close(timeout)),
            Err(error) => {
                tracing::error!(%error, "the publisher cannot be waited for");
                Flushed::default()
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
