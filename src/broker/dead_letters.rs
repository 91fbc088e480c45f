//! Dead letters: published under a confirm, on a connection of their own (an alarm blocks publishing
//! connections, and with them every ack on the same connection).

use std::time::Duration;

use chrono::{SecondsFormat, Utc};
use lapin::message::Delivery;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::protocol::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};
use lapin::{Channel, Confirmation, Connection};

use super::Broker;
use super::wire::{Property, RawProperties};
use crate::event::Rejection;
use crate::message::PERSISTENT;

/// How long the broker may take to confirm a batch's letters. A blocked connection never confirms.
const CONFIRM_TIMEOUT: Duration = Duration::from_secs(10);

/// What a header frame needs beside the headers: ten short-string properties of 256 bytes at most, and framing.
/// RabbitMQ closes a connection whose header frame exceeds `frame_max`.
pub(super) const PROPERTY_BYTES: usize = 4096;

/// `frame_max` where the broker sets no limit: RabbitMQ's default.
const DEFAULT_FRAME_BYTES: usize = 131_072;

/// Letters on their way at the same time: few enough that a slow disk confirms them in time.
const CHUNK: usize = 100;

/// Headers that say why this letter is one, and nothing about an earlier letter.
const OWN_HEADERS: [&str; 8] = [
    "x-cns-reason",
    "x-cns-detail",
    "x-cns-field",
    "x-cns-sqlstate",
    "x-cns-routing-key",
    "x-cns-dead-at",
    "x-cns-worker",
    "x-cns-headers-left-out",
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
#[derive(Clone, Copy, Debug)]
pub struct Letter<'a> {
    /// The key it arrived with.
    pub routing_key: &'a ShortString,
    /// Its body.
    pub body: &'a [u8],
    /// Its properties.
    pub properties: &'a BasicProperties,
    /// Why it cannot be stored.
    pub rejection: &'a Rejection,
}

impl<'a> Letter<'a> {
    /// A letter about a delivery.
    #[must_use]
    pub fn about(delivery: &'a Delivery, rejection: &'a Rejection) -> Self {
        Letter {
            routing_key: &delivery.routing_key,
            body: &delivery.data,
            properties: &delivery.properties,
            rejection,
        }
    }

    /// A copy that outlives its delivery.
    #[must_use]
    pub fn keep(&self) -> KeptLetter {
        KeptLetter {
            routing_key: self.routing_key.clone(),
            body: self.body.to_owned(),
            properties: self.properties.clone(),
            rejection: self.rejection.clone(),
        }
    }
}

/// See [`Letter::keep`].
#[derive(Clone, Debug)]
pub struct KeptLetter {
    routing_key: ShortString,
    body: Vec<u8>,
    properties: BasicProperties,
    rejection: Rejection,
}

impl KeptLetter {
    /// The letter.
    #[must_use]
    pub fn letter(&self) -> Letter<'_> {
        Letter {
            routing_key: &self.routing_key,
            body: &self.body,
            properties: &self.properties,
            rejection: &self.rejection,
        }
    }
}

/// Publishes dead letters, connecting when there is one to publish.
#[derive(Debug)]
pub struct DeadLetters {
    broker: Broker,
    exchange: String,
    worker: String,
    open: Option<(Connection, Channel)>,
}

/// Letters were not taken: every one of them has to be published again.
#[derive(Debug, thiserror::Error)]
pub enum Undelivered {
    /// The connection failed.
    #[error("{0}")]
    Broker(#[from] lapin::Error),
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
    pub fn new(broker: Broker, exchange: String, worker: String) -> Self {
        DeadLetters { broker, exchange, worker, open: None }
    }

    /// Publishes letters, a few at a time, and waits until the broker has confirmed them. `done` grows by those
    /// that it has confirmed, so that a second try need not send them again.
    ///
    /// # Errors
    /// Not all were taken; the connection is given up.
    pub async fn publish(&mut self, letters: &[Letter<'_>], done: &mut usize) -> Result<(), Undelivered> {
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

    async fn try_publish(&mut self, letters: &[Letter<'_>]) -> Result<(), Undelivered> {
        let (connection, channel) = match self.open.take() {
            Some((connection, channel)) if channel.status().connected() => {
                self.open.insert((connection, channel))
            }
            _ => {
                let connection = self.broker.connect("dead letters").await?;
                let channel = connection.create_channel().await?;
                channel.confirm_select(ConfirmSelectOptions::default()).await?;
                self.open.insert((connection, channel))
            }
        };
        let frame_bytes = match connection.configuration().frame_max() {
            0 => DEFAULT_FRAME_BYTES,
            limit => usize::try_from(limit).unwrap_or(DEFAULT_FRAME_BYTES),
        };
        let mut confirms = Vec::with_capacity(letters.len());
        for letter in letters {
            let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
            let properties = properties(letter, &self.worker, frame_bytes);
            let exchange = self.exchange.as_str().into();
            let key = letter.routing_key.clone();
            confirms.push(channel.basic_publish(exchange, key, options, letter.body, properties).await?);
        }
        for confirm in confirms {
            match confirm.await? {
                Confirmation::Ack(None) => {}
                Confirmation::Ack(Some(returned)) => {
                    return Err(Undelivered::Returned(returned.reply_text.as_str().to_owned()));
                }
                Confirmation::Nack(_) | Confirmation::NotRequested => return Err(Undelivered::Refused),
            }
        }
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
pub(super) fn reason_headers(rejection: &Rejection, routing_key: &[u8], worker: &str) -> FieldTable {
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

/// The message's own properties and headers, with the reason beside them.
fn properties(letter: &Letter<'_>, worker: &str, frame_bytes: usize) -> BasicProperties {
    let original = letter.properties;
    let mut own = reason_headers(letter.rejection, letter.routing_key.as_str().as_bytes(), worker);
    let acted_on = [original.user_id(), original.expiration()];
    for ((_, header), text) in ACTED_ON.into_iter().zip(acted_on) {
        if let Some(text) = text {
            own.insert(header.into(), AMQPValue::LongString(LongString::from(text.as_str())));
        }
    }

    let mut room = frame_bytes.saturating_sub(PROPERTY_BYTES + table_bytes(&own));
    let mut left_out = 0_i64;
    for (name, value) in original.headers().iter().flat_map(|headers| headers.inner()) {
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
        own.insert("x-cns-headers-left-out".into(), AMQPValue::LongLongInt(left_out));
    }

    // Whatever the producer made of it: a letter is kept until somebody has looked at it.
    let mut kept = BasicProperties::default().with_headers(own).with_delivery_mode(PERSISTENT);
    macro_rules! keep {
        ($($get:ident => $with:ident),* $(,)?) => {
            $(if let Some(value) = original.$get() { kept = kept.$with(value.clone()); })*
        };
    }
    keep!(
        content_type => with_content_type,
        content_encoding => with_content_encoding,
        priority => with_priority,
        correlation_id => with_correlation_id,
        reply_to => with_reply_to,
        message_id => with_message_id,
        timestamp => with_timestamp,
        kind => with_type,
        app_id => with_app_id,
        cluster_id => with_cluster_id,
    );
    kept
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
