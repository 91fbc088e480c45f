//! Every event that CNS workflows publish to RabbitMQ, stored once in PostgreSQL.
//!
//! Producers publish, and forget, to one topic exchange. A pool of workers consumes a durable queue, deduplicates
//! on `event_id` by a unique insert, and acknowledges only after the commit. The way of an event is the way
//! through this crate:
//!
//! ```text
//! message → event → batch → store → ack
//! ```
//!
//! - [`event`]: the contract as types, without I/O.
//! - [`message`]: between an AMQP message and an event.
//! - [`broker`]: connections and topology. Never names Diesel.
//! - [`dead_letters`]: messages that cannot be stored: published by the worker, read and replayed by the operator.
//! - [`publisher`]: for producers: takes an event at once, and sees to it that it arrives.
//! - [`worker`]: supervise → lane → batch → settle.
//! - [`store`]: the table. Never names lapin.
//! - [`api`]: the read API over HTTP, which asks the store.
//! - [`config`], [`metrics`], [`health`], [`cli`]: around it.
//!
//! The feature `publisher` alone has what a producer needs, and neither a database nor HTTP in its dependencies;
//! the default feature `service` is the worker and the read API.

#[cfg(feature = "service")]
pub mod amqp;
#[cfg(feature = "service")]
pub mod api;
#[cfg(feature = "publisher")]
mod backoff;
#[cfg(feature = "publisher")]
pub mod broker;
#[cfg(feature = "service")]
pub mod cli;
#[cfg(feature = "service")]
pub mod config;
#[cfg(feature = "service")]
pub mod dead_letters;
pub mod event;
#[cfg(feature = "service")]
pub mod health;
#[cfg(feature = "service")]
pub mod http;
#[cfg(feature = "service")]
mod log_throttle;
#[cfg(feature = "publisher")]
pub mod message;
#[cfg(feature = "service")]
pub mod metrics;
mod named;
#[cfg(feature = "publisher")]
pub mod publisher;
#[cfg(feature = "service")]
pub mod store;
#[cfg(feature = "publisher")]
mod tls;
#[cfg(all(feature = "publisher", not(feature = "opentelemetry")))]
#[path = "trace/off.rs"]
mod trace;
#[cfg(feature = "opentelemetry")]
#[path = "trace/span.rs"]
mod trace;
#[cfg(feature = "service")]
pub mod worker;

/// The revision that this was built from: `CNS_EVENTS_REVISION` at build time, else the commit that was checked out.
pub const REVISION: &str = env!("CNS_EVENTS_BUILT_FROM");

// The Rust of the documentation compiles.
#[cfg(all(doctest, feature = "publisher"))]
#[doc = include_str!("../README.md")]
mod readme {}
#[cfg(all(doctest, feature = "publisher"))]
#[doc = include_str!("../docs/publishing.md")]
mod publishing {}
