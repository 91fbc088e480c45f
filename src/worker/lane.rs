//! One lane: one channel, one consumer, one batch and one database connection, in a plain loop.

use std::time::Duration;

use lapin::Connection;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::batch::Batch;
use super::intake::{Intake, count};
use super::patience::Patience;
use super::session::SessionLost;
use super::settle::{Settled, Settler};
use crate::broker::{Broker, DeadLetters};
use crate::metrics::Peer;
use crate::store::{Database, Writer};

/// How often an idle lane asks whether the database is still there.
const IDLE_CHECK: Duration = Duration::from_secs(5);

/// Why a lane stopped consuming without its session being lost.
enum Pause {
    /// The worker stops.
    Shutdown,
    /// The database was away for too long.
    Outage,
}

/// Runs until shutdown, or until the session is lost.
pub(super) async fn run(
    shared: Shared,
    number: usize,
    connection: &Connection,
    broker: Broker,
    database: Database,
    session: CancellationToken,
) -> Result<(), SessionLost> {
    let config = &shared.config;
    let (timeout, prepare) = (config.database.statement_timeout(), config.database.prepared_statements);
    let mut settler = Settler {
        writer: Writer::new(database, timeout, prepare),
        dead_letters: DeadLetters::new(broker, config.amqp.dead_letter_exchange.clone(), shared.name.clone()),
        session,
        shared: shared.clone(),
    };
    loop {
        // Nothing is taken from the queue before it could be stored.
        if !database_answers(&mut settler).await {
            return Ok(());
        }
        let mut intake = Intake::open(connection, &shared, &settler.session, number).await?;
        match consume(&mut intake, &mut settler).await {
            Ok(pause) => {
                intake.give_back().await?;
                if let Pause::Shutdown = pause {
                    return Ok(());
                }
                tracing::warn!(lane = number, "held for too long: everything was returned to the queue");
            }
            Err(lost) => {
                intake.abandon();
                return Err(lost);
            }
        }
    }
}

/// Collects, commits and settles until it has to pause.
async fn consume(intake: &mut Intake<'_>, settler: &mut Settler) -> Result<Pause, SessionLost> {
    let shutdown = settler.shared.shutdown.clone();
    loop {
        let batch = tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(Pause::Shutdown),
            batch = intake.batch() => batch?,
            () = tokio::time::sleep(IDLE_CHECK) => {
                check_database(settler).await;
                continue;
            }
        };
        let rows = batch.len();
        match settle(intake, settler, batch).await? {
            Settled::Done => intake.settled(rows).await?,
            Settled::Held(batch) => {
                settler.shared.metrics.in_flight.sub(count(rows));
                batch.give_back();
                let stopping = shutdown.is_cancelled();
                return Ok(if stopping { Pause::Shutdown } else { Pause::Outage });
            }
        }
    }
}

/// Settles a batch. While it is on its way the next one gathers, as long as there is room for it.
async fn settle(
    intake: &mut Intake<'_>,
    settler: &mut Settler,
    batch: Batch,
) -> Result<Settled, SessionLost> {
    let session = settler.session.clone();
    let mut settling = std::pin::pin!(settler.settle(batch));
    loop {
        tokio::select! {
            biased;
            settled = &mut settling => return settled,
            received = intake.receive(), if intake.has_room() => {
                if let Err(lost) = received {
                    // The batch cannot be acknowledged any more, but what is being stored is let finish.
                    session.cancel();
                    let _ = settling.await;
                    return Err(lost);
                }
            }
        }
    }
}

/// Waits until a row could be stored; false when the worker stops or the session ends first.
async fn database_answers(settler: &mut Settler) -> bool {
    let mut patience = Patience::endless();
    let (health, metrics) = (settler.shared.health.clone(), settler.shared.metrics.clone());
    let mut failed = false;
    loop {
        match settler.writer.probe().await {
            Ok(()) => {
                if health.reached(Peer::Database) && failed {
                    tracing::info!("the database answers: consuming");
                }
                if failed {
                    metrics.reconnects.with_label_values(&[Peer::Database.name()]).inc();
                }
                return true;
            }
            Err(failure) => {
                failed = true;
                if health.lost(Peer::Database, &failure.to_string()) {
                    tracing::warn!(%failure, "the database cannot store: waiting for it");
                }
            }
        }
        let pause = patience.pause().unwrap_or(IDLE_CHECK);
        tokio::select! {
            () = settler.shared.shutdown.cancelled() => return false,
            () = settler.session.cancelled() => return false,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

/// An idle lane has no commit that would tell.
async fn check_database(settler: &mut Settler) {
    match settler.writer.ping().await {
        Ok(()) => drop(settler.shared.health.reached(Peer::Database)),
        Err(failure) => {
            if settler.shared.health.lost(Peer::Database, &failure.to_string()) {
                tracing::warn!(%failure, "the database does not answer");
            }
        }
    }
}
