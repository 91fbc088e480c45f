//! The worker: supervise → lane → intake | settle.
//!
//! A *session* is the declared topology and the lanes that consume, each on a connection of its own. When any part of it
//! fails the whole session ends, and the supervisor builds a new one. Lanes share configuration, metrics, health and the
//! shutdown token, and nothing else.
//!
//! ```text
//! supervise      builds sessions, one after the other
//! └─ lane        next batch → decode → store → settle
//!    ├─ intake   the consumer: deliveries wait here until there is a batch; the prefetch follows their size
//!    │  └─ parked   deliveries that have left their batch and wait alone
//!    ├─ decode   deliveries → rows, sorted by event_id
//!    ├─ rows     rows → table; halves a batch that fails (bisect, judge), holds it while the database is away
//!    └─ desks    deliveries that leave their batch, each kind in a task of its own
//!       ├─ held_rows      rows that fail while others are stored
//!       └─ dead letters   rejected deliveries → dead-letter exchange, under confirms
//! ```
//!
//! Every delivery of a batch has a fate, and the ack reads it.

mod batch;
mod bisect;
mod decode;
mod desks;
mod fate;
mod held_rows;
mod intake;
mod judge;
mod lane;
mod last_stored;
mod parked;
mod prefetch;
mod rows;
mod session;
mod supervise;

pub use last_stored::LastStored;
pub use supervise::{WorkerError, run};

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::broker::notices::Notifier;
use crate::config::{Config, Declare};
use crate::event::Rules;
use crate::health::Health;
use crate::metrics::{Dependency, Metrics};

/// Time after a disruption in which the prefetch does not grow. Each disruption returns what is prefetched, and counts towards the
/// delivery limit of each message: where one follows the other, few messages may be affected.
const DISRUPTED: Duration = Duration::from_secs(10);

/// State that every lane shares.
#[derive(Clone, Debug)]
pub struct Shared {
    /// Configuration.
    pub config: Arc<Config>,
    /// Counters and histograms.
    pub metrics: Arc<Metrics>,
    /// Servers that are reached, or the reason why not.
    pub health: Arc<Health>,
    /// Cancelled when the worker has to stop.
    pub shutdown: CancellationToken,
    /// Name in dead letters, connection names and consumer tags.
    pub name: String,
    /// Row that was stored last.
    pub last_stored: Arc<LastStored>,
    /// Inserts that this process has committed.
    pub committed: Arc<AtomicU64>,
    /// Tells streams whose events were stored.
    pub notifier: Notifier,
    /// Time of the last disruption: a session or a hold that ended with messages returned to the queue.
    pub disrupted_at: Arc<Mutex<Option<Instant>>>,
}

impl Shared {
    /// Returns the state of a worker that has not started yet.
    #[must_use]
    pub fn new(
        config: Config,
        metrics: Arc<Metrics>,
        health: Arc<Health>,
        shutdown: CancellationToken,
    ) -> Self {
        let (config, name) = (Arc::new(config), process_name());
        let notifier = notifier(&config, &name, &shutdown);
        Shared {
            config,
            metrics,
            health,
            shutdown,
            name,
            last_stored: Arc::default(),
            committed: Arc::default(),
            notifier,
            disrupted_at: Arc::default(),
        }
    }

    /// Records that the broker is away, and logs it once.
    fn broker_lost(&self, reason: &str) {
        if self.health.lost(Dependency::Broker, reason) {
            tracing::warn!(
                error = reason,
                "the session with RabbitMQ ended, reconnecting until it is back: {reason}"
            );
        }
    }

    /// Records that a connection to the broker was not opened, and logs the reason where it is another one.
    fn broker_unreached(&self, reason: &str) {
        tracing::debug!(error = reason, "an attempt to connect to RabbitMQ failed");
        if self.health.lost(Dependency::Broker, reason) {
            tracing::warn!(
                error = reason,
                "cannot use RabbitMQ, trying again until it is possible: {reason}"
            );
        }
    }

    /// Records that messages were returned to the queue.
    fn disrupted(&self) {
        *self.disrupted_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Returns whether messages were returned to the queue a short time ago.
    fn is_disrupted(&self) -> bool {
        let at = *self.disrupted_at.lock().unwrap_or_else(PoisonError::into_inner);
        at.is_some_and(|at| at.elapsed() < DISRUPTED)
    }

    /// Returns the number of inserts that this process has committed: a row that fails while others are stored is alone to blame.
    fn committed(&self) -> u64 {
        self.committed.load(Ordering::Relaxed)
    }

    fn rules(&self) -> Rules {
        Rules {
            max_message_bytes: self.config.worker.max_message_bytes,
            payload: self.config.validation.payload,
        }
    }
}

/// Starts the sender of notices. A URI that cannot be used is reported by the lanes.
fn notifier(config: &Config, name: &str, shutdown: &CancellationToken) -> Notifier {
    let Ok(broker) = config.amqp.endpoint(name) else { return Notifier::default() };
    let passive = config.amqp.declare == Declare::Passive;
    Notifier::start(broker, &config.amqp.stored_exchange, passive, shutdown.clone())
}

/// Returns a name that is unique in the pool: the host (in Kubernetes the pod) and the process id.
fn process_name() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host = match host.trim() {
        "" => "worker",
        host => host,
    };
    format!("{host}-{}", std::process::id())
}
