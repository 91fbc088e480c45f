//! AMQP frames read by hand, for messages as their bytes are.
//!
//! The client library reads every short string as UTF-8 and fails the whole connection over one that is not, though
//! RabbitMQ takes and delivers it. So what has to live with any message (taking such a one out of the pool's queue,
//! and looking at dead letters) gets, publishes and acknowledges one message at a time on a connection of this kind
//! (docs/adr/0006-messages-that-the-client-library-cannot-read.md).

mod frames;
mod properties;

pub use frames::WireError;
pub use properties::{Property, RawProperties};

use lapin::protocol::{AMQPClass, basic, channel, confirm, connection};
use lapin::types::FieldTable;

use super::Broker;
use crate::event::{Reason, Rejection};
use frames::{Frame, Frames};

/// The one channel of such a connection.
const CHANNEL: u16 = 1;

/// `basic`: the class of messages (AMQP 0-9-1).
const BASIC: u16 = 60;
/// `basic.get-ok`
const GET_OK: u16 = 71;
/// `basic.return`
const RETURN: u16 = 50;

/// A message as its bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RawMessage {
    /// The key it was published under.
    pub routing_key: Vec<u8>,
    /// Its properties.
    pub properties: RawProperties,
    /// Its body.
    pub body: Vec<u8>,
}

impl RawMessage {
    /// Whether the client library can read it.
    ///
    /// # Errors
    /// Why the worker cannot.
    pub fn check(&self) -> Result<(), Rejection> {
        let not_utf8 = |field| Rejection::of(Reason::InvalidField, field, "is not UTF-8");
        if std::str::from_utf8(&self.routing_key).is_err() {
            return Err(not_utf8("routing_key"));
        }
        self.properties.read().map(drop).map_err(|property| not_utf8(property.name()))
    }
}

/// A message that is held: acknowledged, or back in its queue when the connection ends.
#[derive(Debug)]
pub struct Got {
    /// Names it in [`Wire::ack`].
    pub tag: u64,
    /// The message.
    pub message: RawMessage,
}

/// What became of a message that was published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Published {
    /// A queue has it.
    Confirmed,
    /// No queue takes it; the broker's words.
    Returned(String),
    /// The broker refused it.
    Refused,
}

/// A connection with one channel, in confirm mode.
pub struct Wire {
    frames: Frames,
    /// The next publish's number.
    published: u64,
}

impl Wire {
    /// Connects, logs in and opens a channel.
    ///
    /// # Errors
    /// As the broker or the network gives them.
    pub async fn open(broker: &Broker) -> Result<Self, WireError> {
        let mut frames = Frames::open(broker).await?;
        frames.send(CHANNEL, AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {}))).await?;
        frames.method().await?;
        let select = confirm::Select { nowait: false };
        frames.send(CHANNEL, AMQPClass::Confirm(confirm::AMQPMethod::Select(select))).await?;
        frames.method().await?;
        Ok(Wire { frames, published: 0 })
    }

    /// How many messages are ready in a queue.
    ///
    /// # Errors
    /// As the broker gives them: the queue may not exist.
    pub async fn ready(&mut self, queue: &str) -> Result<u32, WireError> {
        use lapin::protocol::queue::{AMQPMethod, Declare};
        let declare = Declare {
            queue: queue.into(),
            passive: true,
            durable: false,
            exclusive: false,
            auto_delete: false,
            nowait: false,
            arguments: FieldTable::default(),
        };
        self.frames.send(CHANNEL, AMQPClass::Queue(AMQPMethod::Declare(declare))).await?;
        match self.frames.method().await? {
            AMQPClass::Queue(AMQPMethod::DeclareOk(queue)) => Ok(queue.message_count),
            other => Err(WireError::unexpected(&other)),
        }
    }

    /// Takes the next message of a queue; `None` where there is none.
    ///
    /// # Errors
    /// As the broker or the network gives them.
    pub async fn get(&mut self, queue: &str) -> Result<Option<Got>, WireError> {
        let get = basic::Get { queue: queue.into(), no_ack: false };
        self.frames.send(CHANNEL, AMQPClass::Basic(basic::AMQPMethod::Get(get))).await?;
        // Read by hand: the routing key in it need not be UTF-8.
        let payload = match self.frames.next().await? {
            Frame::Method(BASIC, GET_OK, payload) => payload,
            Frame::Method(..) => return Ok(None), // get-empty
            Frame::Content(_) => return Err(WireError::Protocol("content without a method".into())),
        };
        let parts = || {
            let (tag, rest) = payload.split_first_chunk::<8>()?;
            let (_exchange, rest) = short_string(rest.get(1..)?)?; // behind the flag `redelivered`
            let (routing_key, _) = short_string(rest)?;
            Some((u64::from_be_bytes(*tag), routing_key.to_owned()))
        };
        let (tag, routing_key) = parts().ok_or_else(|| WireError::Protocol("a short get-ok".into()))?;
        let (properties, body) = self.frames.content().await?;
        Ok(Some(Got { tag, message: RawMessage { routing_key, properties, body } }))
    }

    /// Publishes messages to an exchange, mandatory, and waits for the broker's confirms. Each has its own outcome, in
    /// their order.
    ///
    /// # Errors
    /// The connection failed: what became of them is not known.
    pub async fn publish(
        &mut self,
        exchange: &str,
        messages: &[RawMessage],
    ) -> Result<Vec<Published>, WireError> {
        let first = self.published + 1;
        for message in messages {
            self.frames.publish(exchange, message).await?;
        }
        self.frames.flush().await?;
        self.published += messages.len() as u64;
        let mut outcomes: Vec<Option<Published>> = vec![None; messages.len()];
        let mut returned: Vec<Option<String>> = vec![None; messages.len()];
        while outcomes.iter().any(Option::is_none) {
            match self.frames.next().await? {
                // A return says whose it is by its content alone; messages with the same content have the same end.
                Frame::Method(BASIC, RETURN, payload) => {
                    let words = payload
                        .get(2..)
                        .and_then(short_string)
                        .map(|(words, _)| String::from_utf8_lossy(words).into_owned())
                        .unwrap_or_default();
                    let (properties, body) = self.frames.content().await?;
                    let whose = messages.iter().zip(&mut returned).find(|(message, returned)| {
                        returned.is_none() && message.properties == properties && message.body == body
                    });
                    if let Some((_, returned)) = whose {
                        *returned = Some(words);
                    }
                }
                frame @ Frame::Method(..) => {
                    let (tag, multiple, taken) = match frame.parse()? {
                        AMQPClass::Basic(basic::AMQPMethod::Ack(ack)) => {
                            (ack.delivery_tag, ack.multiple, true)
                        }
                        AMQPClass::Basic(basic::AMQPMethod::Nack(nack)) => {
                            (nack.delivery_tag, nack.multiple, false)
                        }
                        other => return Err(WireError::unexpected(&other)),
                    };
                    for (number, outcome) in (first..).zip(&mut outcomes) {
                        if outcome.is_none() && (number == tag || multiple && number <= tag) {
                            *outcome = Some(if taken { Published::Confirmed } else { Published::Refused });
                        }
                    }
                }
                Frame::Content(_) => return Err(WireError::Protocol("content without a method".into())),
            }
        }
        Ok(outcomes
            .into_iter()
            .zip(returned)
            .map(|(outcome, returned)| match (outcome, returned) {
                (Some(Published::Confirmed), Some(words)) => Published::Returned(words),
                (outcome, _) => outcome.unwrap_or(Published::Refused),
            })
            .collect())
    }

    /// Acknowledges one message: it leaves its queue.
    ///
    /// # Errors
    /// As the network gives them.
    pub async fn ack(&mut self, tag: u64) -> Result<(), WireError> {
        let ack = basic::Ack { delivery_tag: tag, multiple: false };
        self.frames.send(CHANNEL, AMQPClass::Basic(basic::AMQPMethod::Ack(ack))).await
    }

    /// Returns everything that is held to its queue, and says goodbye. When this is done, so are the acks before it.
    ///
    /// # Errors
    /// As the network gives them; what was held goes back to its queue in any case.
    pub async fn close(mut self) -> Result<(), WireError> {
        // A nack rather than the close alone: from RabbitMQ 4.3 on it does not count towards a delivery limit.
        let all = basic::Nack { delivery_tag: 0, multiple: true, requeue: true };
        self.frames.send(CHANNEL, AMQPClass::Basic(basic::AMQPMethod::Nack(all))).await?;
        let close =
            connection::Close { reply_code: 200, reply_text: "done".into(), class_id: 0, method_id: 0 };
        self.frames.send(0, AMQPClass::Connection(connection::AMQPMethod::Close(close))).await?;
        loop {
            match self.frames.method().await? {
                AMQPClass::Connection(connection::AMQPMethod::CloseOk(_)) => return Ok(()),
                _ => continue,
            }
        }
    }
}

/// What the broker says of itself before anybody logs in: the arguments of `connection.start`.
pub(super) async fn greeting(broker: &Broker) -> Result<Vec<u8>, WireError> {
    Ok(Frames::greet(broker).await?.1)
}

/// A short string's bytes, and what is behind it.
fn short_string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(*length))
}
