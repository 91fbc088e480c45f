//! One lane: one consumer, one batch and one database connection, in a plain loop.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Shared;
use super::batch::Batch;
use super::intake::Intake;
use super::session::SessionLost;
use super::settle::{Outage, Settler, Unfinished};
use super::supervise::declare;
use crate::backoff::Backoff;
use crate::broker::{BrokerEndpoint, DeadLetters, Letter, Version};
use crate::metrics::Dependency;
use crate::store::{DatabaseEndpoint, Writer};

/// How often an idle lane asks whether the database is still there.
const IDLE_CHECK: Duration = Duration::from_secs(5);

/// Why a lane stopped consuming without its session being lost.
enum Pause {
    /// The worker stops.
    Shutdown,
    /// A server was away for too long.
    Held(Batch, Unfinished),
}

/// Runs until shutdown, or until the session is lost.
pub(super) async fn run(
    shared: Shared,
    number: usize,
    broker: BrokerEndpoint,
    database: DatabaseEndpoint,
    session: CancellationToken,
    version: Option<Version>,
) -> Result<(), SessionLost> {
    let config = &shared.config;
    let (timeout, prepare) = (config.database.statement_timeout(), config.database.prepared_statements);
    let exchange = config.amqp.dead_letter_exchange.clone();
    let mut settler = Settler {
        writer: Writer::new(database, timeout, prepare),
        dead_letters: DeadLetters::new(broker.clone(), exchange, shared.name.clone()),
        session,
        version,
        shared: shared.clone(),
    };
    loop {
        // Nothing is taken from the queue before it could be stored.
        if !database_answers(&mut settler).await {
            return Ok(());
        }
        let mut intake = Intake::open(&broker, &shared, &settler.session, number).await?;
        shared.health.reached(Dependency::Broker);
        match consume(&mut intake, &mut settler).await {
            Ok(Pause::Shutdown) => return intake.give_back(None).await,
            Ok(Pause::Held(batch, Unfinished { outage, done })) => {
                intake.give_back(Some((batch, &done))).await?;
                if shared.shutdown.is_cancelled() {
                    return Ok(());
                }
                tracing::warn!(lane = number, "held for too long: everything was returned to the queue");
                if let Outage::DeadLetters(letter) = outage
                    && !dead_letters_are_taken(&mut settler, &broker, &letter).await
                {
                    return Ok(());
                }
            }
            Err(lost) => {
                intake.abandon();
                return Err(lost);
            }
        }
    }
}

/// Collects, commits and settles until it has to pause.
async fn consume(intake: &mut Intake, settler: &mut Settler) -> Result<Pause, SessionLost> {
    let (shutdown, session) = (settler.shared.shutdown.clone(), settler.session.clone());
    loop {
        let batch = tokio::select! {
            biased;
            () = shutdown.cancelled() => return Ok(Pause::Shutdown),
            // With a backlog there is always a batch, and nothing else would notice.
            () = session.cancelled() => return Err(SessionLost::Ended),
            batch = intake.batch() => batch?,
            () = tokio::time::sleep(IDLE_CHECK) => {
                intake.alongside(Box::pin(check_database(settler))).await;
                continue;
            }
        };
        match intake.alongside(Box::pin(settler.settle(batch.deliveries()))).await {
            Ok(()) => intake.ack(batch).await?,
            Err(unfinished) => return Ok(Pause::Held(batch, unfinished)),
        }
    }
}

/// Waits until a row could be stored; false when the worker stops or the session ends first.
async fn database_answers(settler: &mut Settler) -> bool {
    let mut backoff = Backoff::default();
    while let Err(failure) = settler.writer.probe().await {
        if settler.shared.health.lost(Dependency::Database, &failure.to_string()) {
            tracing::warn!(%failure, "the database cannot store: waiting for it");
        }
        if !pause(settler, &mut backoff).await {
            return false;
        }
    }
    settler.database_answered();
    true
}

/// Waits until a letter that was not taken is taken, and declares what may be missing for it; false when the
/// worker stops or the session ends first. The message itself is back in the queue: its letter may come twice.
async fn dead_letters_are_taken(settler: &mut Settler, broker: &BrokerEndpoint, letter: &Letter) -> bool {
    let mut backoff = Backoff::default();
    loop {
        if let Err(error) = declare(&settler.shared, broker, settler.version).await {
            tracing::debug!(%error, "the topology cannot be declared");
        }
        let mut done = 0;
        match settler.dead_letters.publish(std::slice::from_ref(letter), &mut done).await {
            Ok(()) => return true,
            Err(error) => drop(settler.shared.health.lost(Dependency::Broker, &error.to_string())),
        }
        if !pause(settler, &mut backoff).await {
            return false;
        }
    }
}

/// Waits before the next try; false when there is to be none.
async fn pause(settler: &Settler, backoff: &mut Backoff) -> bool {
    tokio::select! {
        () = settler.shared.shutdown.cancelled() => false,
        () = settler.session.cancelled() => false,
        () = tokio::time::sleep(backoff.next_delay()) => true,
    }
}

/// An idle lane has no commit that would tell. Where the database was away, answering is not enough.
async fn check_database(settler: &mut Settler) {
    let away = settler.shared.health.is_away(Dependency::Database);
    let checked = if away { settler.writer.probe().await } else { settler.writer.ping().await };
    match checked {
        Ok(()) => settler.database_answered(),
        Err(failure) => {
            if settler.shared.health.lost(Dependency::Database, &failure.to_string()) {
                tracing::warn!(%failure, "the database does not answer");
            }
        }
    }
}
