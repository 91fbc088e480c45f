//! The worker: supervise → lane → batch → settle.
//!
//! A *session* is the declared topology and the lanes that consume, each on a connection of its own. When any part of it
//! fails the whole session ends, and the supervisor builds a new one. Lanes share configuration, metrics, health and the
//! shutdown token, and nothing else.

mod batch;
mod intake;
mod lane;
mod persist;
mod session;
mod settle;
mod supervise;

pub use supervise::{WorkerError, run};

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::event::Rules;
use crate::health::Health;
use crate::metrics::{Dependency, Metrics};

/// What every lane shares.
#[derive(Clone, Debug)]
pub struct Shared {
    /// The configuration.
    pub config: Arc<Config>,
    /// Counters and histograms.
    pub metrics: Arc<Metrics>,
    /// Who is reached.
    pub health: Arc<Health>,
    /// Cancelled when the worker has to stop.
    pub shutdown: CancellationToken,
    /// Stands in dead letters, connection names and consumer tags.
    pub name: String,
}

impl Shared {
    /// The broker is away, and why.
    fn lost(&self, reason: &str) {
        if self.health.lost(Dependency::Broker, reason) {
            tracing::warn!(reason, "the broker is away: connecting until it is back");
        }
    }

    fn rules(&self) -> Rules {
        Rules {
            max_message_bytes: self.config.worker.max_message_bytes,
            payload: self.config.validation.payload,
        }
    }
}
