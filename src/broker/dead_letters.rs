//! Dead letters: published under a confirm, on a connection of their own (an alarm blocks publishing
//! connections, and with them every ack on the same connection).

use std::time::Duration;

use chrono::{SecondsFormat, Utc};
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};

use super::BrokerEndpoint;
use crate::amqp::{AmqpError, Delivery, Property, Published, RawMessage, RawProperties, Wire};
use crate::event::Rejection;

/// How long the broker may take to confirm a batch's letters. A blocked connection never confirms.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(10);

/// What a header frame needs beside the headers: ten short-string properties of 256 bytes at most, and framing; also what the
/// broker adds when a letter is looked at. RabbitMQ closes a connection whose header frame exceeds `frame_max`.
const PROPERTY_BYTES: usize = 4096;

/// Letters on their way at the same time: few enough that a slow disk confirms them in time.
const CHUNK: usize = 100;

/// How many headers of the message's own did not fit.
const LEFT_OUT: &str = "x-cns-headers-left-out";

/// Headers that say why this letter is one, and nothing about an earlier letter.
const OWN_HEADERS: [&str; 8] = [
    "x-cns-reason",
    "x-cns-detail",
    "x-cns-field",
    "x-cns-sqlstate",
    "x-cns-routing-key",
    "x-cns-dead-at",
    "x-cns-worker",
    LEFT_OUT,
];

/// What the broker adds when it dead-letters a message by itself, or counts its deliveries.
const BROKER_HEADERS: [&str; 8] = [
    "x-death",
    "x-first-death-exchange",
    "x-first-death-queue",
    "x-first-death-reason",
    "x-last-death-exchange",
    "x-last-death-queue",
    "x-last-death-reason",
    "x-delivery-count",
];

/// Whether a header is about the letter, and not the message's own.
#[must_use]
pub fn is_own_header(name: &str) -> bool {
    OWN_HEADERS.contains(&name) || BROKER_HEADERS.contains(&name)
}

/// A message that cannot be stored, and why.
#[derive(Clone, Debug)]
pub struct Letter {
    /// The message as it came.
    pub delivery: Delivery,
    /// Why it cannot be stored.
    pub rejection: Rejection,
}

/// Publishes dead letters, connecting when there is one to publish.
pub struct DeadLetters {
    broker: BrokerEndpoint,
    exchange: String,
    worker: String,
    open: Option<Wire>,
}

/// Letters were not taken: every one of them has to be published again.
#[derive(Debug, thiserror::Error)]
pub enum Undelivered {
    /// The connection failed.
    #[error(transparent)]
    Broker(#[from] AmqpError),
    /// The broker took it and no queue did.
    #[error("no queue takes dead letters: the broker returned one ({0})")]
    Returned(String),
    /// The broker refused it.
    #[error("the broker refused a dead letter (nack)")]
    Refused,
    /// No confirm came; most likely an alarm blocks the connection.
    #[error("the broker did not confirm a dead letter within 10 s")]
    Unconfirmed,
}

impl DeadLetters {
    /// Letters go to `exchange`; `worker` stands in their `x-cns-worker`.
    #[must_use]
    pub fn new(broker: BrokerEndpoint, exchange: String, worker: String) -> Self {
        DeadLetters { broker, exchange, worker, open: None }
    }

    /// Publishes letters, a few at a time, and waits until the broker has confirmed them. `done` grows by those
    /// that it has confirmed, so that a second try need not send them again.
    ///
    /// # Errors
    /// Not all were taken; the connection is given up.
    pub async fn publish(&mut self, letters: &[Letter], done: &mut usize) -> Result<(), Undelivered> {
        while *done < letters.len() {
            let chunk = &letters[*done..letters.len().min(*done + CHUNK)];
            let published = tokio::time::timeout(CONFIRM_TIMEOUT, self.try_publish(chunk)).await;
            if let Err(error) = published.unwrap_or(Err(Undelivered::Unconfirmed)) {
                self.open = None;
                return Err(error);
            }
            *done += chunk.len();
        }
        Ok(())
    }

    async fn try_publish(&mut self, letters: &[Letter]) -> Result<(), Undelivered> {
        // One that the broker has closed since is of no use.
        if let Some(wire) = &mut self.open
            && !wire.is_quiet().await
        {
            self.open = None;
        }
        let mut wire = match self.open.take() {
            Some(wire) => wire,
            None => Wire::open(&self.broker).await?,
        };
        let room = wire.max_properties_bytes();
        let messages: Vec<_> = letters.iter().map(|letter| message(letter, &self.worker, room)).collect();
        let outcomes = match wire.publish(&self.exchange, &messages).await {
            // An alarm. The broker reads the letters when it is over, and each try before that would leave one more copy.
            Err(AmqpError::Blocked(_)) => {
                tokio::time::sleep(CONFIRM_TIMEOUT).await;
                return Err(Undelivered::Unconfirmed);
            }
            outcomes => outcomes?,
        };
        for published in outcomes {
            match published {
                Published::Confirmed => {}
                Published::Returned(words) => return Err(Undelivered::Returned(words)),
                Published::Refused => return Err(Undelivered::Refused),
            }
        }
        self.open = Some(wire);
        Ok(())
    }
}

/// What the broker would act on when the message is published again, and the header that keeps it: it refuses a foreign
/// `user_id`, and erases a message whose `expiration` has passed.
const ACTED_ON: [(Property, &str); 2] =
    [(Property::UserId, "x-cns-user-id"), (Property::Expiration, "x-cns-expiration")];

/// Moves what the broker would act on to headers, and makes the message persistent.
pub fn set_apart(properties: &mut RawProperties, headers: &mut FieldTable) {
    for (property, header) in ACTED_ON {
        if let Some(text) = properties.text(property) {
            headers.insert(header.into(), AMQPValue::LongString(LongString::from(text.as_ref())));
            properties.remove(property);
        }
    }
    properties.set_persistent();
}

/// Why a message is a letter, since when, and who says so.
fn reason_headers(rejection: &Rejection, routing_key: &[u8], worker: &str) -> FieldTable {
    let mut headers = FieldTable::default();
    let mut say = |name: &str, value: &[u8]| {
        headers.insert(name.into(), AMQPValue::LongString(LongString::from(value)));
    };
    say("x-cns-reason", rejection.reason.name().as_bytes());
    say("x-cns-detail", one_line(&rejection.detail).as_bytes());
    if let Some(field) = &rejection.field {
        say("x-cns-field", one_line(field).as_bytes());
    }
    if let Some(sqlstate) = &rejection.sqlstate {
        say("x-cns-sqlstate", sqlstate.as_bytes());
    }
    say("x-cns-routing-key", routing_key);
    say("x-cns-dead-at", Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true).as_bytes());
    say("x-cns-worker", worker.as_bytes());
    headers
}

/// The message as it came, with the reason in its headers; `room` is what its properties may take (bytes).
fn message(letter: &Letter, worker: &str, room: usize) -> RawMessage {
    let mut message = letter.delivery.message();
    let properties = &mut message.properties;
    let mut own = reason_headers(&letter.rejection, &message.routing_key, worker);
    set_apart(properties, &mut own);
    let room = room.saturating_sub(PROPERTY_BYTES);
    match properties.headers() {
        Some(headers) => {
            let mut room = room.saturating_sub(table_bytes(&own));
            let mut left_out = 0;
            for (name, value) in headers.inner() {
                let bytes = entry_bytes(name, value);
                if own.contains_key(name.as_str()) || OWN_HEADERS.contains(&name.as_str()) {
                    continue; // of an earlier letter, or somebody else's invention
                } else if bytes <= room {
                    room -= bytes;
                    own.insert(name.clone(), value.clone());
                } else {
                    left_out += 1;
                }
            }
            if left_out > 0 {
                own.insert(LEFT_OUT.into(), AMQPValue::LongLongInt(left_out));
            }
            properties.set_headers(&own);
        }
        // None there, or none that can be read: those stay as they are, or go as one.
        None => {
            let mut whole = properties.clone();
            whole.append_headers(&own);
            if whole.to_bytes().len() > room {
                own.insert(LEFT_OUT.into(), AMQPValue::LongLongInt(1));
                whole.set_headers(&own);
            }
            *properties = whole;
        }
    }
    message
}

fn one_line(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).take(500).collect()
}

fn table_bytes(table: &FieldTable) -> usize {
    4 + table.inner().iter().map(|(name, value)| entry_bytes(name, value)).sum::<usize>()
}

fn entry_bytes(name: &ShortString, value: &AMQPValue) -> usize {
    1 + name.as_str().len() + value_bytes(value)
}

/// The size of a value on the wire, its type byte included (AMQP 0-9-1, 4.2.5).
fn value_bytes(value: &AMQPValue) -> usize {
    1 + match value {
        AMQPValue::Void => 0,
        AMQPValue::Boolean(_) | AMQPValue::ShortShortInt(_) | AMQPValue::ShortShortUInt(_) => 1,
        AMQPValue::ShortInt(_) | AMQPValue::ShortUInt(_) => 2,
        AMQPValue::LongInt(_) | AMQPValue::LongUInt(_) | AMQPValue::Float(_) => 4,
        AMQPValue::DecimalValue(_) => 5,
        AMQPValue::LongLongInt(_) | AMQPValue::Double(_) | AMQPValue::Timestamp(_) => 8,
        AMQPValue::ShortString(text) => 4 + text.as_str().len(),
        AMQPValue::LongString(text) => 4 + text.len(),
        AMQPValue::ByteArray(bytes) => 4 + bytes.len(),
        AMQPValue::FieldArray(values) => 4 + values.as_slice().iter().map(value_bytes).sum::<usize>(),
        AMQPValue::FieldTable(table) => table_bytes(table),
    }
}
