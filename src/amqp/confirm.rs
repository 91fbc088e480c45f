//! Publishing under confirms: each message has its own outcome.

use std::time::Duration;

use super::AmqpError;
use super::connection::{Connection, Purpose};
use super::inbox::{Inbox, Returned};
use super::message::RawMessage;
use super::method::{Request, Response};
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

/// A connection with one channel that publishes in confirm mode.
pub struct ConfirmChannel {
    connection: Connection,
    inbox: Inbox,
    /// Messages that were published.
    published: u64,
}

impl ConfirmChannel {
    /// Connects, logs in and asks for confirms.
    ///
    /// # Errors
    /// As the broker or the network gives them.
    pub async fn open(broker: &BrokerEndpoint) -> Result<Self, AmqpError> {
        let mut connection = Connection::open(broker, broker.name(), Purpose::Publishing).await?;
        let mut inbox = Inbox::default();
        connection.call(CHANNEL, &Request::ChannelOpen, &mut inbox).await?;
        connection.call(CHANNEL, &Request::Select, &mut inbox).await?;
        Ok(ConfirmChannel { connection, inbox, published: 0 })
    }

    /// Returns whether the connection is as it was left: where nothing was asked, nothing but its end arrives.
    pub(crate) async fn is_quiet(&mut self) -> bool {
        matches!(self.connection.fill_within(Duration::ZERO).await, Ok(false))
    }

    /// Returns the size that the properties of a message may have, in bytes, so that every client can read it.
    #[must_use]
    pub fn max_properties_bytes(&self) -> usize {
        self.connection.max_properties_bytes()
    }

    /// Publishes messages to an exchange, mandatory, and waits for the broker's confirms. The outcomes are in the order of the
    /// messages.
    ///
    /// # Errors
    /// The connection failed: whether a queue has them is not known.
    pub async fn publish(
        &mut self,
        exchange: &str,
        messages: &[RawMessage],
    ) -> Result<Vec<Published>, AmqpError> {
        let first = self.published + 1;
        for message in messages {
            self.connection.write_message(CHANNEL, exchange, message)?;
        }
        self.connection.flush().await?;
        self.published += messages.len() as u64;
        let mut confirms = Confirms::new(first, messages);
        while !confirms.are_complete() {
            let frame = self.connection.receive_frame().await?;
            let response = self.inbox.accept(frame)?;
            self.inbox.returned.drain(..).try_for_each(|returned| confirms.returned(returned))?;
            match response {
                None => {}
                Some((_, Response::Ack { tag, multiple })) => confirms.settle(tag, multiple, true),
                Some((_, Response::Nack { tag, multiple })) => confirms.settle(tag, multiple, false),
                Some((_, other)) => return Err(other.unexpected()),
            }
        }
        Ok(confirms.outcomes())
    }

    /// Closes the connection.
    ///
    /// # Errors
    /// As the network gives them.
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
