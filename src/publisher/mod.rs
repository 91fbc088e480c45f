//! Fire-and-forget publishing.
//!
//! A [`Publisher`] accepts events and returns immediately. A call validates and encodes an event and puts it into a buffer; a thread
//! of the publisher sends it, waits for the broker's confirm, and sends it again until it is confirmed. A call never fails: an
//! event that a worker could not store, and one without room in the buffer, are counted and logged.
//!
//! ```no_run
//! use std::time::Duration;
//! use cns_events::event::{Source, WorkflowState, payload::MatchStatus};
//! use cns_events::publisher::{Publisher, PublisherConfig};
//! # use uuid::Uuid;
//! # async fn workflow(bom_id: Uuid) -> Result<(), cns_events::publisher::StartError> {
//! let config = PublisherConfig::new("amqp://user:password@127.0.0.1/%2f", "enrichment-workflow")
//!     .spool("/var/spool/enrichment-workflow");
//! let publisher = Publisher::start(config)?; // the broker may be unreachable
//!
//! let mut workflow = publisher.workflow(bom_id, "org-123", "enrich-bom-42").source(Source::Staff);
//! workflow.log_processing_started(66);
//! workflow.set_state(&WorkflowState::running(66, 1, 0));
//! workflow.log_enrichment_progress("LM358DR", MatchStatus::Matched).confidence(0.97).supplier("DigiKey");
//! workflow.log_risk_alert("LM358DR", 84.0); // critical, which follows from the score
//! workflow.log_stage_completed("enrichment", Duration::from_millis(4200));
//!
//! let closed = publisher.close(Duration::from_secs(5)).await;
//! assert_eq!(closed.left, 0);
//! # Ok(())
//! # }
//! ```
//!
//! # States of an event
//!
//! ```text
//!  log_…() ─▶ validate, encode ─▶ buffer ───────────────────────▶ in flight ─▶ confirmed
//!                │               │  ▲   half full, or an outage       │  ▲
//!             invalid            │  └─── connection lost ◀────────────┤  │
//!                              full      (first again)                │  │
//!                                │                                    │  │
//!                             dropped    spool on disk ───────────────┘──┘
//! ```
//!
//! - **Order** is kept within a process. A message that no queue takes is parked, so that it does not delay the others; up to
//!   4,096 messages are parked.
//! - **Refused**: the broker closes the channel for a message that is too large for it, or whose routing key the user may not
//!   write. That event is set aside in `refused.jsonl` of the spool folder, or lost without a spool; it is counted and logged, and
//!   the others go on.
//! - **Duplicates** are harmless: an event that is sent again has the same `event_id`, and is stored once.
//! - **Limits**: events that are accepted and neither confirmed nor on disk are limited in number and bytes
//!   ([`PublisherConfig::buffer`]). In addition there are events in flight from the spool (8 MiB), the client library's copies of
//!   events in flight (8 MiB), and the spool's cache (about 8 MiB).
//! - **Outage**: no connection, no answer, an alarm of the broker. Without a spool the newest events are dropped when
//!   the buffer is full; [`Entry::wait`] and [`Publisher::log_wait`] wait for room instead.
//! - **Logs**: `tracing`, without bodies. The client library logs each returned message with its body as a warning: filter
//!   its target `lapin` (`lapin=off`) where bodies must not be in a log.
//! - **Kill**: events in the spool are sent by the next publisher that is started on the same folder.
//!
//! # Deduplication keys
//!
//! Each event gets a `UUIDv7`. A step that may be retried, such as a Temporal activity, sets its own key, so that its event is
//! stored once however often the step runs:
//!
//! ```no_run
//! # fn activity(workflow: &cns_events::publisher::WorkflowPublisher, run_id: &str, activity_id: &str) {
//! workflow.log_stage_started("enrichment").event_id(format!("{run_id}/{activity_id}/stage_started"));
//! # }
//! ```
//!
//! The key must be the same for each attempt and different for each event: build it from the workflow's run id, the activity's id
//! and the event's name, which a retry does not change, and not from the attempt's number, a time or a random value.

mod buffer;
mod config;
mod entry;
mod flow;
mod handle;
mod in_flight;
mod outbox;
mod outcome;
mod parked;
mod properties;
mod refused;
mod sender;
mod shared;
mod spool;
mod start;
mod stats;
mod thread;
mod workflow;

pub use config::{PublisherConfig, SpoolWhen};
pub use entry::Entry;
pub use handle::Publisher;
pub use outcome::{CloseReport, FlushReport, LogError, StartError};
pub use stats::Stats;
pub use workflow::WorkflowPublisher;
