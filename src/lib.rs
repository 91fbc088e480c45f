//! Every event that CNS workflows publish to RabbitMQ, stored once in PostgreSQL.

#[cfg(feature = "publisher")]
pub mod broker;
pub mod event;
#[cfg(feature = "publisher")]
pub mod message;
#[cfg(feature = "publisher")]
pub mod publisher;
#[cfg(feature = "service")]
pub mod store;
