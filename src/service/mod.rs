//! The processes that run until they are stopped: what they listen on, their health, their tasks, and their end.

mod aggregate;
mod process;
mod serve;
mod worker;

pub(crate) use aggregate::run as aggregate;
pub(crate) use process::{listen, stop_on_signals};
pub(crate) use serve::run as serve;
pub(crate) use worker::run as worker;

/// Reason why a process cannot run.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ServiceError {
    /// The configuration cannot be used.
    #[error("{0}")]
    Config(String),
    /// Another failure.
    #[error(transparent)]
    Failed(#[from] anyhow::Error),
}
