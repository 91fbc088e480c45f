//! One lane: one consumer, one batch and one database connection, in a plain loop.

use std::time::Duration;

use super::Shared;
use super::batch::Batch;
use super::dead_letter::DeadLetterDesk;
use super::decode::Rows;
use super::intake::Intake;
use super::rows::RowStore;
use super::session::{HoldExpired, Session, SessionLost};
use crate::broker::BrokerEndpoint;
use crate::dead_letters::RejectedDelivery;
use crate::metrics::Dependency;
use crate::retry_budget::RetryBudget;
use crate::store::{DatabaseEndpoint, Writer};

/// Interval at which an idle lane checks the database.
const IDLE_CHECK: Duration = Duration::from_secs(5);

/// Reason why a lane stopped consuming without its session being lost.
enum Pause {
    /// The worker stops.
    Shutdown,
    /// The database was away for `worker.hold_seconds`.
    Database(Batch),
    /// The broker did not take this dead letter for `worker.hold_seconds`.
    DeadLetter(Batch, Box<RejectedDelivery>),
}

/// Lane with its ways to the table and to the dead-letter exchange.
struct Lane {
    shared: Shared,
    session: Session,
    rows: RowStore,
    dead_letters: DeadLetterDesk,
}

/// Runs a lane until the worker stops or the session is lost.
pub(super) async fn run(
    shared: Shared,
    number: usize,
    broker: BrokerEndpoint,
    database: DatabaseEndpoint,
    session: Session,
) -> Result<(), SessionLost> {
    let settings = &shared.config.database;
    let writer = Writer::new(database, settings.statement_timeout(), settings.prepared_statements);
    let mut lane = Lane {
        rows: RowStore::new(shared.clone(), session.clone(), writer),
        dead_letters: DeadLetterDesk::new(shared.clone(), session.clone(), broker.clone()),
        session: session.clone(),
        shared: shared.clone(),
    };
    loop {
        // Nothing is taken from the queue before it could be stored.
        if lane.rows.wait_until_writable().await.is_err() {
            return Ok(());
        }
        let mut intake = Intake::open(&broker, &shared, &session, number).await?;
        shared.health.reached(Dependency::Broker);
        let (batch, rejected) = match Box::pin(lane.consume(&mut intake)).await {
            Ok(Pause::Shutdown) => return intake.requeue(None).await,
            Ok(Pause::Database(batch)) => (batch, None),
            Ok(Pause::DeadLetter(batch, rejected)) => (batch, Some(rejected)),
            Err(lost) => {
                intake.forget();
                return Err(lost);
            }
        };
        intake.requeue(Some(batch)).await?;
        if session.is_shutting_down() {
            return Ok(());
        }
        tracing::warn!(lane = number, "hold expired: everything unsettled was returned to the queue");
        if let Some(rejected) = rejected
            && lane.dead_letters.wait_until_taken(&rejected).await.is_err()
        {
            return Ok(());
        }
    }
}

impl Lane {
    /// Collects, stores, dead-letters and acknowledges batches until the lane has to pause.
    async fn consume(&mut self, intake: &mut Intake) -> Result<Pause, SessionLost> {
        let session = self.session.clone();
        loop {
            let mut batch = tokio::select! {
                biased;
                () = session.shutdown() => return Ok(Pause::Shutdown),
                // With a backlog there is always a batch, and nothing else would notice.
                lost = session.ended() => return Err(lost),
                batch = intake.next_batch() => batch?,
                () = tokio::time::sleep(IDLE_CHECK) => {
                    intake.while_receiving(Box::pin(self.rows.check())).await;
                    continue;
                }
            };
            let mut hold = RetryBudget::new(Duration::from_secs(self.shared.config.worker.hold_seconds));
            let settled = intake.while_receiving(Box::pin(self.settle(&mut batch, &mut hold))).await;
            match settled {
                Ok(()) => intake.ack(batch).await?,
                Err(Unsettled::Rows) => return Ok(Pause::Database(batch)),
                Err(Unsettled::DeadLetter(rejected)) => return Ok(Pause::DeadLetter(batch, rejected)),
            }
        }
    }

    /// Settles every delivery of a batch: decoded and stored, or dead-lettered.
    async fn settle(&mut self, batch: &mut Batch, hold: &mut RetryBudget) -> Result<(), Unsettled> {
        let mut rows = Rows::decode(batch, &self.shared.rules(), &self.shared.metrics);
        self.rows.store(&mut rows, hold).await.map_err(|HoldExpired| Unsettled::Rows)?;
        self.dead_letters.publish(batch, hold).await.map_err(Unsettled::DeadLetter)
    }
}

/// Part of a batch that was not settled when its hold expired.
enum Unsettled {
    /// Rows that the database did not store.
    Rows,
    /// A dead letter that the broker did not take.
    DeadLetter(Box<RejectedDelivery>),
}
