//! AMQP frames read by hand, for messages as their bytes are.
//!
//! The client library reads every short string as UTF-8 and fails the whole connection over one that is not, though
//! RabbitMQ takes and delivers it. So what has to live with any message stands on this: the lanes' consumers (docs/adr/0009), and
//! whatever gets, publishes and acknowledges one message at a time, such as dead letters
//! (docs/adr/0006-messages-that-the-client-library-cannot-read.md).

mod consumer;
mod delivery;
mod handshake;
mod properties;
mod transport;

pub use consumer::Consumer;
pub use delivery::Delivery;
pub use properties::{Property, RawProperties};
pub use transport::AmqpError;

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use lapin::protocol::{AMQPClass, basic, channel, confirm, connection};
use lapin::types::FieldTable;

use crate::broker::BrokerEndpoint;

use crate::event::{Reason, Rejection};
use delivery::Arriving;
use handshake::Use;
use transport::{Frame, Transport};

/// The channel that declares and publishes.
const CHANNEL: u16 = 1;

/// Messages that one channel holds; when it has them, another takes over. (A quorum queue hands out as many at once; a
/// `basic.get` for each would be a commit of its own there.)
const CHUNK: u16 = 500;

/// How long the next message may take, unless somebody has more patience. Only where others take messages too, or where the
/// broker is slow, is it ever waited for.
const IDLE: Duration = Duration::from_secs(2);

/// The consumer's name on its channel.
const TAG: &str = "cns-events";

/// `basic`: the class of messages (AMQP 0-9-1), and methods of it that are read by hand.
const BASIC: u16 = 60;
/// `basic.return`
const RETURN: (u16, u16) = (BASIC, 50);
/// `basic.cancel`, of the broker's own
const CANCEL: (u16, u16) = (BASIC, 30);
/// `basic.deliver`
const DELIVER: (u16, u16) = (BASIC, 60);

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
    /// Whether its texts and headers can be read.
    ///
    /// # Errors
    /// Why the worker cannot.
    pub fn check(&self) -> Result<(), Rejection> {
        readable(&self.routing_key, &self.properties)
    }
}

/// Whether a message's texts and headers can be read.
fn readable<V: AsRef<[u8]>>(routing_key: &[u8], properties: &RawProperties<V>) -> Result<(), Rejection> {
    let unreadable = |field, why| Rejection::of(Reason::InvalidField, field, why);
    if std::str::from_utf8(routing_key).is_err() {
        return Err(unreadable("routing_key", "is not UTF-8"));
    }
    properties.check().map_err(|property| match property {
        Property::Headers => {
            unreadable("headers", "cannot be read: a name is not UTF-8, or a value has no known type")
        }
        property => unreadable(property.name(), "is not UTF-8"),
    })
}

/// A message that is held: acknowledged, or back in its queue when the connection ends.
#[derive(Debug)]
pub struct Got {
    /// Names it in [`Wire::ack`].
    pub tag: Tag,
    /// The message.
    pub message: RawMessage,
}

/// A channel, and a delivery on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag(u16, u64);

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

/// A connection with a channel that publishes in confirm mode, and as many that hold messages as there have to be.
pub struct Wire {
    frames: Transport,
    /// How many messages were published.
    published: u64,
    /// The channel that consumes; [`CHANNEL`] where none does yet.
    consuming: u16,
    /// Messages that it has handed out and that are not acknowledged.
    held: u16,
    /// Received, and not asked for yet.
    waiting: VecDeque<Got>,
    /// How long the next message may take.
    patience: Duration,
}

impl Wire {
    /// Connects, logs in and opens a channel.
    ///
    /// # Errors
    /// As the broker or the network gives them.
    pub async fn open(broker: &BrokerEndpoint) -> Result<Self, AmqpError> {
        let frames = Transport::open(broker, broker.name(), Use::Publishing).await?;
        let mut wire = Wire {
            frames,
            published: 0,
            consuming: CHANNEL,
            held: 0,
            waiting: VecDeque::new(),
            patience: IDLE,
        };
        wire.ask(CHANNEL, AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {}))).await?;
        let select = confirm::Select { nowait: false };
        wire.ask(CHANNEL, AMQPClass::Confirm(confirm::AMQPMethod::Select(select))).await?;
        Ok(wire)
    }

    /// Waits so long for each message.
    #[must_use]
    pub fn with_patience(self, patience: Duration) -> Self {
        Wire { patience, ..self }
    }

    /// Whether the connection is as it was left: where nothing was asked, nothing comes but its end.
    pub(crate) async fn is_quiet(&mut self) -> bool {
        matches!(self.frames.anything_within(Duration::ZERO).await, Ok(false))
    }

    /// How many messages are ready in a queue.
    ///
    /// # Errors
    /// As the broker gives them: the queue may not exist.
    pub async fn ready(&mut self, queue: &str) -> Result<u32, AmqpError> {
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
        match self.ask(CHANNEL, AMQPClass::Queue(AMQPMethod::Declare(declare))).await? {
            AMQPClass::Queue(AMQPMethod::DeclareOk(queue)) => Ok(queue.message_count),
            other => Err(AmqpError::unexpected(&other)),
        }
    }

    /// Takes the next message of a queue, always the same one; `None` where none comes.
    ///
    /// # Errors
    /// As the broker or the network gives them.
    pub async fn next(&mut self, queue: &str) -> Result<Option<Got>, AmqpError> {
        if self.waiting.is_empty() && (self.consuming == CHANNEL || self.held >= CHUNK) {
            self.consume(queue).await?;
        }
        while self.waiting.is_empty() && self.frames.anything_within(self.patience).await? {
            match self.frames.next().await? {
                Frame::Method(channel, DELIVER, payload) => self.take(channel, &payload).await?,
                Frame::Method(_, CANCEL, _) => return Err(AmqpError::Cancelled),
                other => return Err(AmqpError::unexpected(&other.parse()?)),
            }
        }
        Ok(self.waiting.pop_front())
    }

    /// What the properties of a message may take, in bytes, so that whoever agreed to the broker's frames can read it.
    #[must_use]
    pub fn max_properties_bytes(&self) -> usize {
        self.frames.max_properties_bytes()
    }

    /// Lets another channel consume: the last one has all it may hold.
    async fn consume(&mut self, queue: &str) -> Result<(), AmqpError> {
        use basic::{AMQPMethod, Consume, Qos};
        self.stop_consuming().await?;
        let next = self.consuming + 1;
        self.ask(next, AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {}))).await?;
        let qos = Qos { prefetch_count: CHUNK, global: false };
        self.ask(next, AMQPClass::Basic(AMQPMethod::Qos(qos))).await?;
        (self.consuming, self.held) = (next, 0);
        let consume = Consume {
            queue: queue.into(),
            consumer_tag: TAG.into(),
            no_local: false,
            no_ack: false,
            exclusive: false,
            nowait: false,
            arguments: FieldTable::default(),
        };
        self.ask(next, AMQPClass::Basic(AMQPMethod::Consume(consume))).await.map(drop)
    }

    async fn stop_consuming(&mut self) -> Result<(), AmqpError> {
        if self.consuming == CHANNEL {
            return Ok(());
        }
        let cancel = basic::Cancel { consumer_tag: TAG.into(), nowait: false };
        self.ask(self.consuming, AMQPClass::Basic(basic::AMQPMethod::Cancel(cancel))).await.map(drop)
    }

    /// Keeps what is delivered.
    async fn take(&mut self, channel: u16, arguments: &Bytes) -> Result<(), AmqpError> {
        let Delivery { tag, routing_key, .. } = Arriving::begin(arguments)?.finish();
        let (properties, body) = self.frames.content(channel).await?;
        self.held += u16::from(channel == self.consuming);
        let message = RawMessage { routing_key: routing_key.to_vec(), properties, body };
        self.waiting.push_back(Got { tag: Tag(channel, tag), message });
        Ok(())
    }

    /// Sends a method and waits for the answer; messages that come meanwhile are kept.
    async fn ask(&mut self, channel: u16, method: AMQPClass) -> Result<AMQPClass, AmqpError> {
        self.frames.send(channel, method).await?;
        loop {
            match self.frames.next().await? {
                Frame::Method(channel, DELIVER, payload) => self.take(channel, &payload).await?,
                Frame::Method(_, CANCEL, _) => return Err(AmqpError::Cancelled),
                frame @ Frame::Method(of, ..) if of == channel => return frame.parse(),
                frame => return Err(AmqpError::unexpected(&frame.parse()?)),
            }
        }
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
    ) -> Result<Vec<Published>, AmqpError> {
        let first = self.published + 1;
        for message in messages {
            self.frames.write_message(exchange, message)?;
        }
        self.frames.flush().await?;
        self.published += messages.len() as u64;
        let mut outcomes: Vec<Option<Published>> = vec![None; messages.len()];
        let mut returned: Vec<Option<String>> = vec![None; messages.len()];
        while outcomes.iter().any(Option::is_none) {
            match self.frames.next().await? {
                // A return says whose it is by its key and its body: messages that share both share their end.
                Frame::Method(channel, RETURN, payload) => {
                    let (words, key) = returned_words(&payload)
                        .ok_or_else(|| AmqpError::Protocol("a short return".into()))?;
                    let (_, body) = self.frames.content(channel).await?;
                    let whose = messages.iter().zip(&mut returned).find(|(message, returned)| {
                        returned.is_none() && message.routing_key == key && message.body == body
                    });
                    // Its confirm comes like any other: it must not pass for one of a message that was taken.
                    let (_, returned) =
                        whose.ok_or_else(|| AmqpError::Protocol("a message came back changed".into()))?;
                    *returned = Some(words);
                }
                Frame::Method(channel, DELIVER, payload) => self.take(channel, &payload).await?,
                frame @ Frame::Method(..) => {
                    let (tag, multiple, taken) = match frame.parse()? {
                        AMQPClass::Basic(basic::AMQPMethod::Ack(ack)) => {
                            (ack.delivery_tag, ack.multiple, true)
                        }
                        AMQPClass::Basic(basic::AMQPMethod::Nack(nack)) => {
                            (nack.delivery_tag, nack.multiple, false)
                        }
                        other => return Err(AmqpError::unexpected(&other)),
                    };
                    for (number, outcome) in (first..).zip(&mut outcomes) {
                        if outcome.is_none() && (number == tag || multiple && number <= tag) {
                            *outcome = Some(if taken { Published::Confirmed } else { Published::Refused });
                        }
                    }
                }
                Frame::Content(..) => return Err(AmqpError::Protocol("content without a method".into())),
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
    pub async fn ack(&mut self, Tag(channel, delivery_tag): Tag) -> Result<(), AmqpError> {
        self.held = self.held.saturating_sub(u16::from(channel == self.consuming));
        let ack = basic::Ack { delivery_tag, multiple: false };
        self.frames.send(channel, AMQPClass::Basic(basic::AMQPMethod::Ack(ack))).await
    }

    /// Returns everything that is held to its queue, and says goodbye: the broker has read the acks before it.
    ///
    /// # Errors
    /// As the network gives them; what was held goes back to its queue in any case.
    pub async fn close(mut self) -> Result<(), AmqpError> {
        self.stop_consuming().await?;
        for channel in CHANNEL + 1..=self.consuming {
            // A nack rather than the close alone: from RabbitMQ 4.3 on it does not count towards a delivery limit.
            let all = basic::Nack { delivery_tag: 0, multiple: true, requeue: true };
            self.frames.send(channel, AMQPClass::Basic(basic::AMQPMethod::Nack(all))).await?;
        }
        let close =
            connection::Close { reply_code: 200, reply_text: "done".into(), class_id: 0, method_id: 0 };
        self.ask(0, AMQPClass::Connection(connection::AMQPMethod::Close(close))).await.map(drop)
    }
}

/// What the broker says of itself before anybody logs in: the arguments of `connection.start`.
pub(crate) async fn greeting(broker: &BrokerEndpoint) -> Result<Bytes, AmqpError> {
    Ok(Transport::greet(broker).await?.1)
}

/// The broker's words in a `basic.return`, and the message's routing key.
fn returned_words(payload: &[u8]) -> Option<(String, Vec<u8>)> {
    let (words, rest) = short_string(payload.get(2..)?)?;
    let (_exchange, rest) = short_string(rest)?;
    let (key, _) = short_string(rest)?;
    Some((String::from_utf8_lossy(words).into_owned(), key.to_owned()))
}

/// A short string's bytes, and what is behind it.
fn short_string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first()?;
    rest.split_at_checked(usize::from(*length))
}
