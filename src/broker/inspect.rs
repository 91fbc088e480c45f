//! Looking at the topology without making anything.

use lapin::Connection;

use super::topology::{Declared, Topology, TopologyError};
use super::{BrokerEndpoint, Version};
use crate::amqp::{AmqpError, Browser, ConfirmChannel, Property, Published, RawMessage, RawProperties};
use crate::message::probe;

/// The reply code for a missing privilege (AMQP 0-9-1).
const ACCESS_REFUSED: u16 = 403;

/// The reply code for what does not exist.
const NOT_FOUND: u16 = 404;

/// Messages that are read at most to find a probe.
pub const MAX_PROBE_READS: u32 = 10_000;

/// An exchange or a queue, as it was found.
#[derive(Debug)]
pub struct Inspected {
    /// What it is and how it is called.
    pub object: String,
    /// How it is.
    pub state: State,
}

/// How an exchange or a queue is.
#[derive(Debug)]
pub enum State {
    /// As it has to be; a queue also says what is in it.
    Good(Option<Declared>),
    /// It is there; whether its arguments are right, this user may not ask.
    NotCompared,
    /// It is missing.
    Missing(String),
    /// It has other arguments: in words, with what to do.
    Wrong(String),
}

/// Where a test message went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Route {
    /// A queue took it.
    Taken,
    /// No queue takes it.
    Nowhere,
    /// It could not be tried: in words.
    NotTried(String),
}

impl Topology {
    /// Every exchange and queue: whether it is there, and whether it has the arguments it has to have.
    ///
    /// # Errors
    /// The connection failed.
    pub async fn inspect(
        &self,
        connection: &Connection,
        version: Option<Version>,
    ) -> Result<Vec<Inspected>, lapin::Error> {
        let there = Topology { passive: true, ..self.clone() };
        // Declaring what is there changes nothing, and the broker compares the arguments.
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

/// What the broker says when it is asked for the arguments that have to be there.
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
        TopologyError::Greeting(error) => Err(std::io::Error::other(error).into()),
    }
}

/// Publishes a probe, which a worker drops, and tells whether a queue took it.
///
/// # Errors
/// The connection failed, or an alarm blocks it.
pub async fn probe_route(
    broker: &BrokerEndpoint,
    exchange: &str,
    routing_key: &str,
) -> Result<Route, AmqpError> {
    let mut channel = ConfirmChannel::open(broker).await?;
    let mut properties = RawProperties::default().with_text(Property::Type, probe::TYPE);
    properties.set_persistent();
    let message = RawMessage { routing_key: routing_key.into(), properties, body: Vec::new() };
    let outcome = match channel.publish(exchange, &[message]).await {
        Ok(mut outcomes) => outcomes.pop(),
        Err(AmqpError::Closed { code, text }) if code == ACCESS_REFUSED || code == NOT_FOUND => {
            return Ok(Route::NotTried(text));
        }
        Err(error) => return Err(error),
    };
    channel.close().await?;
    Ok(match outcome {
        Some(Published::Confirmed) => Route::Taken,
        Some(Published::Returned(_)) => Route::Nowhere,
        Some(Published::Refused) | None => Route::NotTried("the broker refused it (nack)".into()),
    })
}

/// Takes probes back from the dead letters; looks at [`MAX_PROBE_READS`] of them at most.
///
/// # Errors
/// As the broker or the network gives them.
pub async fn drain_probes(broker: &BrokerEndpoint, queue: &str) -> Result<(), AmqpError> {
    let ready = super::queue_depth(broker, queue).await.map_err(std::io::Error::other)?.ready;
    let mut browser = Browser::open(broker, queue).await?;
    for _ in 0..ready.min(MAX_PROBE_READS) {
        let Some(held) = browser.next().await? else { break };
        let kind = held.message.properties.text(Property::Type);
        if held.message.body.is_empty() && kind.is_some_and(|kind| kind == probe::TYPE) {
            browser.ack(held.tag).await?;
        }
    }
    browser.close().await
}
