//! The task that keeps the summaries.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::pace;
use super::sums::NamedTypes;
use crate::backoff::Backoff;
use crate::config::Config;
use crate::health::Health;
use crate::metrics::{AggregateMetrics, Dependency};
use crate::store::fix::{self, Purpose};
use crate::store::journal::ResetReason;
use crate::store::summaries::{Aggregator, Round};
use crate::store::{FailureClass, StoreFailure};

/// Pause while another process is at work.
const BUSY: Duration = Duration::from_secs(1);

/// Interval at which the oldest event is asked for.
const OLDEST: Duration = Duration::from_secs(60);

/// The task: one of any number, of which one at a time is at work.
#[derive(Debug)]
pub struct Task {
    aggregator: Aggregator,
    metrics: Arc<AggregateMetrics>,
    /// State of the database as this task sees it.
    health: Arc<Health>,
    shutdown: CancellationToken,
    oldest_at: Option<Instant>,
    /// Time up to which everything is taken in, by this process's clock; `None` where another process is at work.
    up_to: Option<Instant>,
    processors: usize,
}

impl Task {
    /// Returns the writer of the summaries for a configuration.
    ///
    /// # Errors
    /// The database's URL cannot be used.
    pub fn aggregator(config: &Config) -> anyhow::Result<Aggregator> {
        let database = config.database.endpoint()?;
        let named = NamedTypes::from_list(&config.aggregate.types);
        Ok(Aggregator::new(database, config.database.statement_timeout(), named))
    }

    /// Returns a task that has not started yet.
    #[must_use]
    pub fn new(
        aggregator: Aggregator,
        metrics: Arc<AggregateMetrics>,
        health: Arc<Health>,
        shutdown: CancellationToken,
    ) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Task { aggregator, metrics, health, shutdown, oldest_at: None, up_to: None, processors }
    }

    /// Takes in what is stored until the shutdown; the current round ends first.
    pub async fn run(mut self) {
        let mut backoff = Backoff::default();
        while !self.shutdown.is_cancelled() {
            let pause = match self.step().await {
                Ok(pause) => {
                    backoff = Backoff::default();
                    pause
                }
                Err(failure) => {
                    self.report(&failure);
                    backoff.next_delay()
                }
            };
            self.sleep(pause).await;
        }
    }

    /// Runs the task only if the login may keep the summaries.
    pub async fn run_if_allowed(mut self) {
        let mut backoff = Backoff::default();
        loop {
            match self.aggregator.may().await {
                Ok(true) => return self.run().await,
                Ok(false) => {
                    tracing::info!(
                        "this worker keeps no summaries: its login is no member of cns_events_aggregate"
                    );
                    return;
                }
                // The worker itself reports a database that is away.
                Err(_) => self.sleep(backoff.next_delay()).await,
            }
            if self.shutdown.is_cancelled() {
                return;
            }
        }
    }

    /// Runs one round, and returns the pause after it.
    async fn step(&mut self) -> Result<Duration, StoreFailure> {
        let began = Instant::now();
        let round = self.aggregator.round().await?;
        self.reached();
        Ok(match round {
            Round::Busy => {
                self.up_to = None;
                self.metrics.lag.set(0.0);
                BUSY
            }
            Round::NeedsFill(reason) => {
                self.fill(reason).await?;
                Duration::ZERO
            }
            Round::Folded(folded) => {
                let took = began.elapsed();
                self.metrics.round_seconds.observe(took.as_secs_f64());
                self.metrics.events.inc_by(folded.events);
                let behind = (folded.at - folded.up_to).to_std().unwrap_or_default();
                self.metrics.lag.set(behind.as_secs_f64());
                self.up_to = Instant::now().checked_sub(behind);
                self.observe_oldest().await?;
                pace::pause(took, folded.complete, folded.stored_per_second, self.processors)
            }
        })
    }

    async fn fill(&mut self, reason: Option<ResetReason>) -> Result<(), StoreFailure> {
        match reason {
            Some(reason) => tracing::warn!(%reason, "the summaries begin anew from the events: {reason}"),
            None => tracing::info!("the summaries begin: reading all events"),
        }
        let filled = self.aggregator.fill(reason, None, |_| {}).await?;
        self.metrics.fills.with_label_values(&[label(reason)]).inc();
        self.metrics.events.inc_by(filled.events);
        tracing::info!(events = filled.events, "the summaries are complete");
        Ok(())
    }

    /// Looks for the oldest event once a minute.
    async fn observe_oldest(&mut self) -> Result<(), StoreFailure> {
        if self.oldest_at.is_none_or(|at| at.elapsed() >= OLDEST) {
            self.oldest_at = Some(Instant::now());
            let oldest = self.aggregator.oldest_event().await?;
            self.metrics.oldest_event.set(oldest.map_or(0.0, |time| time.timestamp() as f64));
        }
        Ok(())
    }

    fn reached(&self) {
        if self.health.reached(Dependency::Database) {
            tracing::info!("summaries are kept");
        }
    }

    fn report(&self, failure: &StoreFailure) {
        if let Some(up_to) = self.up_to {
            self.metrics.lag.set(up_to.elapsed().as_secs_f64());
        }
        // Two rounds at the same time: the other one has done it.
        if matches!(failure.class, FailureClass::Held(crate::store::Hold::Serialization)) {
            return;
        }
        if self.health.lost(Dependency::Database, &failure.to_string()) {
            tracing::warn!(error = %failure, "cannot keep the summaries, retrying: {}", fix::explained(failure, Purpose::Aggregate));
        }
    }

    async fn sleep(&self, pause: Duration) {
        tokio::select! {
            () = tokio::time::sleep(pause) => {}
            () = self.shutdown.cancelled() => {}
        }
    }
}

/// Returns the label of a fill.
fn label(reason: Option<ResetReason>) -> &'static str {
    match reason {
        None => "first",
        Some(ResetReason::Pruned) => "pruned",
        Some(ResetReason::Foreign | ResetReason::Epoch | ResetReason::Ahead) => "restored",
    }
}
