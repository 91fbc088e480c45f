//! Stores every event that CNS workflows publish to RabbitMQ once in PostgreSQL.
//!
//! Producers publish to one topic exchange. A pool of workers consumes a durable queue, deduplicates on `event_id` with a unique
//! insert, and acknowledges a message only after the commit. An event passes through the crate in this order:
//!
//! ```text
//! message → event → batch → store → ack
//! ```
//!
//! | module | content |
//! | --- | --- |
//! | [`event`] | the contract as types: event types, payloads, decoding, rejections, header names; no I/O |
//! | [`message`] | conversion between an AMQP message and an event |
//! | [`publisher`] | accepts an event immediately and delivers it; needs the broker, never the store |
//! | [`publisher_metrics`] | a publisher's counts for Prometheus (feature `prometheus`) |
//! | [`amqp`] | AMQP as bytes, for messages that have to arrive as they are: consuming, browsing, publishing under confirms |
//! | [`broker`] | endpoint, topology, version; never names Diesel |
//! | [`dead_letters`] | messages that could not be stored: the worker publishes them, the operator reads and replays them |
//! | [`timeline`] | what events state of their workflow: the run with its stages, one line of text for each event; pure |
//! | [`summaries`] | sums of events, pure, and the task that keeps them in tables |
//! | [`worker`] | supervise → lane → intake, decode, store, dead-letter |
//! | [`store`] | the table: insert, reads, journal, summaries, retention, migrations; never names an AMQP client |
//! | [`live`] | streams of what is stored: shared looks at the journal, from any position |
//! | [`api`] | the read API: request → auth → limits → routes → store |
//! | [`http`], [`health`], [`metrics`], [`config`], `logging` | the HTTP server with limits, health, metrics, configuration and logs of every process |
//! | [`json_lines`] | events from a file: validated and published |
//! | `encoding`, `file_kind`, `input` | the files that people feed in: their encodings, other kinds of files, `-` for stdin |
//! | `uri`, `stray`, `race`, `tls` | how a server is named and reached: the form of URIs, pasted characters, attempts one beside the other, certificates |
//! | `terminal`, `counted` | colors, width, progress bars and text on a terminal; numbers of things in sentences |
//! | [`doctor`], [`demo`] | checks as values, and a scenario that shows the pipeline |
//! | `service`, [`retention`] | the processes that run until they are stopped; one run of retention |
//! | [`cli`] | the command line: each command parses, calls the library and prints |
//!
//! The feature `publisher` alone compiles what a producer needs, without a database or an HTTP server. The default feature
//! `service` adds the worker, the read API and the command line.

#[cfg(feature = "service")]
pub mod amqp;
#[cfg(feature = "service")]
pub mod api;
#[cfg(feature = "publisher")]
mod backoff;
#[cfg(all(feature = "publisher", not(feature = "service")))]
#[path = "broker/light.rs"]
pub mod broker;
#[cfg(feature = "service")]
pub mod broker;
#[cfg(feature = "service")]
pub mod cli;
#[cfg(feature = "service")]
pub mod config;
#[cfg(feature = "service")]
mod counted;
#[cfg(feature = "service")]
pub mod dead_letters;
#[cfg(feature = "service")]
pub mod demo;
#[cfg(feature = "service")]
pub mod doctor;
#[cfg(feature = "service")]
mod encoding;
pub mod event;
#[cfg(feature = "service")]
mod file_kind;
#[cfg(feature = "service")]
pub mod health;
#[cfg(feature = "service")]
pub mod http;
#[cfg(feature = "service")]
mod input;
#[cfg(feature = "service")]
pub mod json_lines;
#[cfg(feature = "service")]
pub mod live;
#[cfg(feature = "service")]
mod log_throttle;
#[cfg(feature = "service")]
mod logging;
#[cfg(feature = "publisher")]
pub mod message;
#[cfg(feature = "service")]
pub mod metrics;
mod named;
#[cfg(feature = "publisher")]
pub mod publisher;
#[cfg(feature = "prometheus")]
pub mod publisher_metrics;
#[cfg(feature = "publisher")]
mod race;
#[cfg(feature = "service")]
pub mod retention;
#[cfg(feature = "service")]
mod retry_budget;
#[cfg(feature = "service")]
mod service;
#[cfg(feature = "service")]
pub mod store;
#[cfg(feature = "publisher")]
mod stray;
#[cfg(feature = "service")]
pub mod summaries;
#[cfg(feature = "service")]
mod terminal;
#[cfg(feature = "service")]
pub mod timeline;
#[cfg(feature = "publisher")]
mod tls;
#[cfg(all(feature = "publisher", not(feature = "opentelemetry")))]
#[path = "trace/off.rs"]
mod trace;
#[cfg(feature = "opentelemetry")]
#[path = "trace/span.rs"]
mod trace;
#[cfg(feature = "publisher")]
mod uri;
#[cfg(feature = "service")]
pub mod worker;

/// Revision of the build: `CNS_EVENTS_REVISION` at build time, else the checked-out commit.
pub const REVISION: &str = env!("CNS_EVENTS_BUILT_FROM");

// Compiles the Rust examples of the documentation.
#[cfg(all(doctest, feature = "publisher"))]
#[doc = include_str!("../README.md")]
mod readme {}
#[cfg(all(doctest, feature = "publisher"))]
#[doc = include_str!("../docs/how-to/publish-from-rust.md")]
mod publishing {}
