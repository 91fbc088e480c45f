//! Publishing under confirms: each message has its own outcome.

use std::collections::VecDeque;

use bytes::Bytes;

use super::connection::{Connection, Purpose};
use super::heartbeat::Heartbeat;
use super::inbox::{Inbox, Returned};
use super::message::RawMessage;
use super::method::{Request, Response};
use super::{ANSWER_TIMEOUT, AmqpError};
use crate::broker::BrokerEndpoint;

/// The one channel of the connection.
const CHANNEL: u16 = 1;

/// Outcome of one message that was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Published {
    /// A queue has it.
    Confirmed,
    /// No queue takes it; the broker's reason.
    Returned(String),
    /// The broker refused it (`basic.nack`).
    Refused,
}

/// Event of a channel in confirm mode.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfirmEvent {
    /// The broker has taken a message, or with `multiple` every message up to it. A returned message is taken too.
    Acked {
        /// Number of the message.
        number: u64,
        /// Set where it counts for every message up to this one.
        multiple: bool,
    },
    /// The broker has refused a message, or with `multiple` every message up to it.
    Nacked {
        /// Number of the message.
        number: u64,
        /// Set where it counts for every message up to this one.
        multiple: bool,
    },
    /// No queue takes a message. Its confirm follows.
    Returned {
        /// The broker's reason.
        reason: String,
        /// Key that the message was published under.
        routing_key: Bytes,
        /// Body of the message.
        body: Bytes,
    },
    /// An alarm of the broker blocks the connection, with its reason.
    Blocked(String),
    /// The alarm is over.
    Unblocked,
}

/// A connection with one channel that publishes in confirm mode.
pub struct ConfirmChannel {
    connection: Connection,
    inbox: Inbox,
    heartbeat: Heartbeat,
    /// Messages that were published.
    published: u64,
    /// Events that have arrived.
    events: VecDeque<ConfirmEvent>,
}

impl ConfirmChannel {
    /// Connects, logs in and selects confirms, for a caller that uses [`ConfirmChannel::publish`].
    ///
    /// # Errors
    /// The failure of the broker or the network.
    pub async fn open(broker: &BrokerEndpoint) -> Result<Self, AmqpError> {
        Self::open_for(broker, Purpose::Publishing).await
    }

    /// Connects, logs in and selects confirms, for a caller that uses [`ConfirmChannel::write`] and [`ConfirmChannel::next`] and
    /// waits for the end of an alarm.
    ///
    /// # Errors
    /// The failure of the broker or the network.
    pub async fn open_through_alarms(broker: &BrokerEndpoint) -> Result<Self, AmqpError> {
        Self::open_for(broker, Purpose::PublishingThroughAlarms).await
    }

    async fn open_for(broker: &BrokerEndpoint, purpose: Purpose) -> Result<Self, AmqpError> {
        let mut connection = Connection::open(broker, broker.name(), purpose).await?;
        let mut inbox = Inbox::default();
        connection.call(CHANNEL, &Request::ChannelOpen, &mut inbox).await?;
        connection.call(CHANNEL, &Request::Select, &mut inbox).await?;
        let heartbeat = Heartbeat::new(connection.heartbeat());
        Ok(ConfirmChannel { connection, inbox, heartbeat, published: 0, events: VecDeque::new() })
    }

    /// Returns the size that the properties of a message may have, in bytes, so that every client can read it.
    #[must_use]
    pub fn max_properties_bytes(&self) -> usize {
        self.connection.max_properties_bytes()
    }

    /// Writes a message, mandatory, and returns its number; [`ConfirmChannel::next`] sends it.
    ///
    /// # Errors
    /// The message cannot be encoded.
    pub fn write(&mut self, exchange: &str, message: &RawMessage) -> Result<u64, AmqpError> {
        self.connection.write_message(CHANNEL, exchange, message)?;
        self.published += 1;
        Ok(self.published)
    }

    /// Sends what was written, and waits for the next event. Cancel-safe.
    ///
    /// # Errors
    /// The connection or the channel is gone.
    pub async fn next(&mut self) -> Result<ConfirmEvent, AmqpError> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Ok(event);
            }
            while let Some(frame) = self.connection.take_frame()? {
                let response = self.inbox.accept(frame)?;
                let returned = self.inbox.returned.drain(..);
                self.events.extend(returned.map(|Returned { reason, routing_key, body }| {
                    ConfirmEvent::Returned { reason, routing_key, body }
                }));
                match response {
                    None => {}
                    Some((_, Response::Ack { tag: number, multiple })) => {
                        self.events.push_back(ConfirmEvent::Acked { number, multiple });
                    }
                    Some((_, Response::Nack { tag: number, multiple })) => {
                        self.events.push_back(ConfirmEvent::Nacked { number, multiple });
                    }
                    Some((_, Response::Blocked { reason })) => {
                        self.events.push_back(ConfirmEvent::Blocked(reason));
                    }
                    Some((_, Response::Unblocked)) => self.events.push_back(ConfirmEvent::Unblocked),
                    Some((_, other)) => return Err(other.unexpected()),
                }
            }
            if !self.events.is_empty() {
                continue;
            }
            tokio::select! {
                biased;
                () = self.heartbeat.due() => {
                    self.heartbeat.silence()?;
                    if self.heartbeat.restart() {
                        self.connection.write_heartbeat();
                    }
                }
                exchanged = self.connection.exchange() => {
                    exchanged?;
                    self.heartbeat.received();
                }
            }
        }
    }

    /// Publishes messages to an exchange, mandatory, and waits for the broker's confirms. The outcomes are in the order of the
    /// messages.
    ///
    /// # Errors
    /// The connection failed or an alarm blocks it: the caller cannot know whether a queue has the messages.
    pub async fn publish(
        &mut self,
        exchange: &str,
        messages: &[RawMessage],
    ) -> Result<Vec<Published>, AmqpError> {
        let first = self.published + 1;
        for message in messages {
            self.write(exchange, message)?;
        }
        let mut confirms = Confirms::new(first, messages);
        while !confirms.are_complete() {
            let event = tokio::time::timeout(ANSWER_TIMEOUT, self.next()).await;
            match event.map_err(|_| AmqpError::Silence)?? {
                ConfirmEvent::Acked { number, multiple } => confirms.settle(number, multiple, true),
                ConfirmEvent::Nacked { number, multiple } => confirms.settle(number, multiple, false),
                ConfirmEvent::Returned { reason, routing_key, body } => {
                    confirms.returned(Returned { reason, routing_key, body })?;
                }
                ConfirmEvent::Blocked(reason) => return Err(AmqpError::Blocked(reason)),
                ConfirmEvent::Unblocked => {}
            }
        }
        Ok(confirms.outcomes())
    }

    /// Closes the connection.
    ///
    /// # Errors
    /// The failure of the network.
    pub async fn close(mut self) -> Result<(), AmqpError> {
        self.connection.close(&mut self.inbox).await
    }
}

/// Confirms and returns of one run of messages.
struct Confirms<'a> {
    /// Number of the first message on its channel.
    first: u64,
    messages: &'a [RawMessage],
    /// The broker's answer for each message, once it has come.
    taken: Vec<Option<bool>>,
    returned: Vec<Option<String>>,
}

impl<'a> Confirms<'a> {
    fn new(first: u64, messages: &'a [RawMessage]) -> Self {
        Confirms { first, messages, taken: vec![None; messages.len()], returned: vec![None; messages.len()] }
    }

    fn are_complete(&self) -> bool {
        self.taken.iter().all(Option::is_some)
    }

    fn settle(&mut self, tag: u64, multiple: bool, taken: bool) {
        for (number, outcome) in (self.first..).zip(&mut self.taken) {
            if outcome.is_none() && (number == tag || multiple && number <= tag) {
                *outcome = Some(taken);
            }
        }
    }

    /// A returned message is known by its key and its body: messages that share both share their outcome. Its confirm arrives
    /// like any other, and must not count for a message that a queue has.
    fn returned(&mut self, returned: Returned) -> Result<(), AmqpError> {
        let same = |message: &RawMessage| {
            message.routing_key == returned.routing_key && message.body == returned.body
        };
        let place = self.messages.iter().zip(&mut self.returned);
        let place = place.into_iter().find(|(message, place)| place.is_none() && same(message));
        let (_, place) = place
            .ok_or_else(|| AmqpError::Protocol("a message was returned that was not published".into()))?;
        *place = Some(returned.reason);
        Ok(())
    }

    fn outcomes(self) -> Vec<Published> {
        let outcome = |(taken, returned): (Option<bool>, Option<String>)| match (taken, returned) {
            (Some(true), Some(reason)) => Published::Returned(reason),
            (Some(true), None) => Published::Confirmed,
            (Some(false) | None, _) => Published::Refused,
        };
        self.taken.into_iter().zip(self.returned).map(outcome).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amqp::RawProperties;

    fn messages(bodies: &[&str]) -> Vec<RawMessage> {
        let message = |body: &&str| RawMessage {
            routing_key: b"k".to_vec(),
            properties: RawProperties::default(),
            body: body.as_bytes().to_vec(),
        };
        bodies.iter().map(message).collect()
    }

    fn returned(body: &'static str) -> Returned {
        Returned {
            reason: "NO_ROUTE".into(),
            routing_key: bytes::Bytes::from_static(b"k"),
            body: bytes::Bytes::from_static(body.as_bytes()),
        }
    }

    #[test]
    fn each_message_has_its_own_outcome() {
        let messages = messages(&["a", "b", "c", "d"]);
        let mut confirms = Confirms::new(10, &messages);
        confirms.returned(returned("b")).unwrap();
        confirms.settle(11, true, true);
        assert!(!confirms.are_complete());
        confirms.settle(13, false, true);
        confirms.settle(12, false, false);
        assert!(confirms.are_complete());
        let no_route = Published::Returned("NO_ROUTE".into());
        let outcomes = [Published::Confirmed, no_route, Published::Refused, Published::Confirmed];
        assert_eq!(confirms.outcomes(), outcomes);
    }

    #[test]
    fn equal_messages_share_their_returns() {
        let messages = messages(&["a", "a"]);
        let mut confirms = Confirms::new(1, &messages);
        confirms.returned(returned("a")).unwrap();
        confirms.returned(returned("a")).unwrap();
        assert!(confirms.returned(returned("a")).is_err(), "a third was not published");
        confirms.settle(2, true, true);
        assert!(confirms.outcomes().iter().all(|outcome| matches!(outcome, Published::Returned(_))));
    }
}
