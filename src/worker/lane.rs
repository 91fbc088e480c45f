//! One lane: one consumer, one batch and one database connection, in a plain loop.

use std::time::Duration;

use super::Shared;
use super::batch::Batch;
use super::decode::Rows;
use super::desks::Desks;
use super::intake::Intake;
use super::rows::RowStore;
use super::session::{HoldExpired, Session, SessionLost};
use crate::broker::BrokerEndpoint;
use crate::metrics::Dependency;
use crate::retry_budget::RetryBudget;
use crate::store::{DatabaseEndpoint, Writer};

/// Interval at which an idle lane checks the database.
const IDLE_CHECK: Duration = Duration::from_secs(5);

/// Maximum wait for confirms of dead letters when the worker stops.
const STOP_WAIT: Duration = Duration::from_secs(2);

/// Reason why a lane stopped consuming without its session being lost.
enum Pause {
    /// The worker stops.
    Shutdown,
    /// The database was away for `worker.hold_seconds`.
    Database(Batch),
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
    let row_store = || {
        let (timeout, prepare) = (settings.statement_timeout(), settings.prepared_statements);
        RowStore::new(shared.clone(), session.clone(), Writer::new(database.clone(), timeout, prepare))
    };
    let mut lane = Lane { shared: shared.clone(), session: session.clone(), rows: row_store() };
    loop {
        // Nothing is taken from the queue before it could be stored.
        if lane.rows.wait_until_writable().await.is_err() {
            return Ok(());
        }
        let mut intake = Intake::open(&broker, &shared, &session, number).await?;
        let mut desks = Desks::start(&shared, &broker, row_store());
        shared.health.reached(Dependency::Broker);
        let ended = Box::pin(lane.consume(&mut intake, &mut desks)).await;
        if !matches!(ended, Ok(Pause::Shutdown)) {
            shared.disrupted();
        }
        match ended {
            Ok(Pause::Shutdown) => {
                // What is not confirmed by then has a dead letter, and another one when it is delivered again.
                let _ = tokio::time::timeout(STOP_WAIT, settle_confirmed(&mut intake, &mut desks)).await;
                return intake.requeue(None).await;
            }
            Ok(Pause::Database(batch)) => intake.requeue(Some(batch)).await?,
            Err(lost) => {
                intake.forget();
                return Err(lost);
            }
        }
        if session.is_shutting_down() {
            return Ok(());
        }
        tracing::warn!(lane = number, "hold expired: everything unsettled was returned to the queue");
    }
}

/// A lane and its way to the table.
struct Lane {
    shared: Shared,
    session: Session,
    rows: RowStore,
}

impl Lane {
    /// Collects, stores, dead-letters and acknowledges batches until the lane has to pause.
    async fn consume(&mut self, intake: &mut Intake, desks: &mut Desks) -> Result<Pause, SessionLost> {
        let session = self.session.clone();
        loop {
            let has_room = desks.has_room();
            let mut batch = tokio::select! {
                biased;
                () = session.shutdown() => return Ok(Pause::Shutdown),
                // With a backlog there is always a batch, and nothing else would notice.
                lost = session.ended() => return Err(lost),
                (key, fate) = desks.next() => {
                    intake.settle_parked(key, fate).await?;
                    continue;
                }
                () = intake.overdue() => {
                    intake.end_overdue().await?;
                    continue;
                }
                batch = intake.next_batch(has_room) => batch?,
                () = tokio::time::sleep(IDLE_CHECK) => {
                    intake.while_receiving(Box::pin(self.rows.check())).await;
                    continue;
                }
            };
            let stored = intake.while_receiving(Box::pin(self.store(&mut batch))).await;
            if let Err(HoldExpired) = stored {
                return Ok(Pause::Database(batch));
            }
            intake.while_receiving(Box::pin(desks.take_over(&mut batch))).await;
            intake.settle(batch).await?;
        }
    }

    /// Decodes a batch and stores its rows. A delivery that cannot be stored is rejected, or held alone.
    async fn store(&mut self, batch: &mut Batch) -> Result<(), HoldExpired> {
        let mut hold = RetryBudget::new(Duration::from_secs(self.shared.config.worker.hold_seconds));
        let (deliveries, fates) = batch.parts();
        let mut rows = Rows::decode(deliveries, fates, &self.shared.rules(), Some(&self.shared.metrics));
        self.rows.store(&mut rows, &mut hold).await
    }
}

/// Settles parked deliveries while confirms of dead letters are expected.
async fn settle_confirmed(intake: &mut Intake, desks: &mut Desks) -> Result<(), SessionLost> {
    while desks.expects_confirms() {
        let (key, fate) = desks.next().await;
        intake.settle_parked(key, fate).await?;
    }
    Ok(())
}
