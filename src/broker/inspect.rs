//! Inspection of the topology, which creates nothing.

use lapin::Connection;

use super::topology::{Declared, Topology, TopologyError};
use super::{BrokerEndpoint, Version};
use crate::amqp::{AmqpError, Browser, ConfirmChannel, Property, Published, RawMessage, RawProperties};
use crate::event::headers;

/// Reply code of a missing privilege (AMQP 0-9-1).
const ACCESS_REFUSED: u16 = 403;

/// Reply code of an object that does not exist.
const NOT_FOUND: u16 = 404;

/// Most messages that are read to find a probe.
pub const MAX_PROBE_READS: u32 = 10_000;

/// State of one exchange or queue.
#[derive(Debug)]
pub struct Inspected {
    /// Kind and name.
    pub object: String,
    /// State.
    pub state: State,
}

/// State of an exchange or a queue.
#[derive(Debug)]
pub enum State {
    /// It is as configured; a queue with its depth.
    Good(Option<Declared>),
    /// It exists; this user may not compare its arguments.
    NotCompared,
    /// It does not exist; the error with its fix.
    Missing(String),
    /// It has other arguments; the error with its fix.
    Wrong(String),
}

/// Outcome of a probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// A queue took it.
    Taken,
    /// No queue takes it.
    Nowhere,
    /// The login may not publish to the exchange; the broker's text.
    Refused(String),
    /// It could not be published; the reason.
    NotTried(String),
}

impl Topology {
    /// Inspects every exchange and queue: its existence, and its arguments.
    ///
    /// # Errors
    /// The connection failed.
    pub async fn inspect(
        &self,
        connection: &Connection,
        version: Option<Version>,
    ) -> Result<Vec<Inspected>, lapin::Error> {
        let there = Topology { passive: true, ..self.clone() };
        // Declaring an existing object changes nothing, and the broker compares the arguments.
        let equal = Topology { passive: false, ..self.clone() };
        let mut all = Vec::new();
        for name in [&self.exchange, &self.dead_letter_exchange] {
            let state = match there.exchange(connection, name).await {
                Ok(()) => compared(equal.exchange(connection, name).await.map(|()| None))?,
                Err(error) => wrong(error)?,
            };
            all.push(Inspected { object: format!("exchange {name}"), state });
        }
        let state = match there.pool_queue(connection).await {
            Ok(_) => compared(equal.pool_queue(connection).await.map(Some))?,
            Err(error) => wrong(error)?,
        };
        all.push(Inspected { object: format!("queue {}", self.queue), state });
        let state = match there.dead_letter_queue(connection, version).await {
            Ok(_) => compared(equal.dead_letter_queue(connection, version).await.map(Some))?,
            Err(error) => wrong(error)?,
        };
        all.push(Inspected { object: format!("queue {}", self.dead_letter_queue), state });
        Ok(all)
    }
}

/// Returns the state that follows from a declaration with the configured arguments.
fn compared(equal: Result<Option<Declared>, TopologyError>) -> Result<State, lapin::Error> {
    match equal {
        Ok(queue) => Ok(State::Good(queue)),
        Err(TopologyError::Mismatch { code: ACCESS_REFUSED, .. }) => Ok(State::NotCompared),
        Err(error) => wrong(error),
    }
}

fn wrong(error: TopologyError) -> Result<State, lapin::Error> {
    match error {
        TopologyError::Mismatch { code: NOT_FOUND, reason } => Ok(State::Missing(reason)),
        TopologyError::Mismatch { reason, .. } => Ok(State::Wrong(reason)),
        TopologyError::Broker(error) => Err(error),
        TopologyError::Connect(error) => Err(std::io::Error::other(error).into()),
        TopologyError::Greeting(error) => Err(std::io::Error::other(error).into()),
    }
}

/// Publishes a probe, which a worker drops, and returns whether a queue took it.
///
/// # Errors
/// The connection failed, or an alarm blocks it.
pub async fn probe_route(
    broker: &BrokerEndpoint,
    exchange: &str,
    routing_key: &str,
) -> Result<Route, AmqpError> {
    let mut channel = ConfirmChannel::open(broker).await?;
    let mut properties = RawProperties::default().with_text(Property::Type, headers::PROBE_TYPE);
    properties.set_persistent();
    let message = RawMessage { routing_key: routing_key.into(), properties, body: Vec::new() };
    let outcome = match channel.publish(exchange, &[message]).await {
        Ok(mut outcomes) => outcomes.pop(),
        Err(AmqpError::Closed { code: ACCESS_REFUSED, text }) => return Ok(Route::Refused(text)),
        Err(AmqpError::Closed { code: NOT_FOUND, text }) => return Ok(Route::NotTried(text)),
        Err(error) => return Err(error),
    };
    channel.close().await?;
    Ok(match outcome {
        Some(Published::Confirmed) => Route::Taken,
        Some(Published::Returned(_)) => Route::Nowhere,
        Some(Published::Refused) | None => Route::NotTried("the broker refused it (nack)".into()),
    })
}

/// Removes probes from the dead letters; reads at most [`MAX_PROBE_READS`] of them.
///
/// # Errors
/// As the broker or the network gives them.
pub async fn drain_probes(broker: &BrokerEndpoint, queue: &str) -> Result<(), AmqpError> {
    let ready = super::queue_depth(broker, queue).await.map_err(std::io::Error::other)?.ready;
    let mut browser = Browser::open(broker, queue).await?;
    for _ in 0..ready.min(MAX_PROBE_READS) {
        let Some(held) = browser.next().await? else { break };
        let kind = held.message.properties.text(Property::Type);
        if held.message.body.is_empty() && kind.is_some_and(|kind| kind == headers::PROBE_TYPE) {
            browser.ack(held.tag).await?;
        }
    }
    browser.close().await
}
