//! A dead letter as a person wants to see it.

use chrono::{DateTime, Utc};
use lapin::types::{AMQPValue, FieldTable};
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::amqp::{Property, RawMessage};

/// Characters of a letter's id: enough to tell any two apart.
const ID_CHARS: usize = 12;

/// What there is to know of a letter without its body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Letter {
    /// The same each time the letter is looked at.
    pub(super) id: String,
    /// Since when it is dead.
    pub(super) dead_at: Option<DateTime<Utc>>,
    /// One of the contract's, or the broker's own (`delivery_limit`, `rejected`, `expired`, `maxlen`); `unrouted` where
    /// nobody says why.
    pub(super) reason: String,
    pub(super) field: Option<String>,
    pub(super) detail: Option<String>,
    pub(super) sqlstate: Option<String>,
    /// Who says so.
    pub(super) worker: Option<String>,
    /// The key it was published under.
    pub(super) routing_key: String,
    pub(super) event_id: Option<String>,
    pub(super) event_type: Option<String>,
    pub(super) bom_id: Option<String>,
    /// How often it was replayed and came back.
    pub(super) replays: i64,
    /// Of the body.
    pub(super) bytes: usize,
}

impl Letter {
    pub(super) fn of(message: &RawMessage) -> Self {
        let headers = message.properties.headers().unwrap_or_default();
        let header = |name: &str| headers.inner().get(name).and_then(text);
        let death = first_death(&headers);
        let of_death = |name: &str| death.and_then(|death| death.inner().get(name));
        let reason = header("x-cns-reason")
            .or_else(|| of_death("reason").and_then(text))
            .or_else(|| message.check().err().map(|rejection| rejection.reason.name().to_owned()));
        let dead_at = header("x-cns-dead-at")
            .and_then(|at| DateTime::parse_from_rfc3339(&at).ok())
            .map(|at| at.with_timezone(&Utc))
            .or_else(|| match of_death("time") {
                Some(AMQPValue::Timestamp(at)) => DateTime::from_timestamp(i64::try_from(*at).ok()?, 0),
                _ => None,
            });
        let body: Value = serde_json::from_slice(&message.body).unwrap_or_default();
        let field = |name: &str| body[name].as_str().map(str::to_owned);
        let property = |of| {
            message.properties.text(of).map(std::borrow::Cow::into_owned).filter(|text| !text.is_empty())
        };
        Letter {
            id: id(message, header("x-cns-dead-at").as_deref()),
            dead_at,
            reason: reason.unwrap_or_else(|| "unrouted".into()),
            field: header("x-cns-field"),
            detail: header("x-cns-detail"),
            sqlstate: header("x-cns-sqlstate"),
            worker: header("x-cns-worker"),
            routing_key: header("x-cns-routing-key")
                .unwrap_or_else(|| String::from_utf8_lossy(&message.routing_key).into_owned()),
            event_id: field("event_id").or_else(|| property(Property::MessageId)),
            event_type: field("event_type").or_else(|| property(Property::Type)),
            bom_id: field("bom_id"),
            replays: replays(&headers),
            bytes: message.body.len(),
        }
    }
}

/// How often a message was replayed.
pub(super) fn replays(headers: &FieldTable) -> i64 {
    match headers.inner().get(super::REPLAYS) {
        Some(AMQPValue::LongLongInt(count)) => *count,
        _ => 0,
    }
}

/// A letter with its properties, headers and body, for machines.
pub(super) fn whole(letter: &Letter, message: &RawMessage) -> Value {
    let headers: serde_json::Map<String, Value> = message
        .properties
        .headers()
        .iter()
        .flat_map(|headers| headers.inner())
        .map(|(name, value)| (name.as_str().to_owned(), plain(value)))
        .collect();
    let mut whole = json!(letter);
    whole["properties"] = json!(message.properties.described());
    whole["headers"] = headers.into();
    // What is not UTF-8 could not stand in JSON, and nothing may be lost.
    if message.check().is_err() {
        whole["properties_hex"] = hex(&message.properties.to_bytes()).into();
        whole["routing_key_hex"] = hex(&message.routing_key).into();
    }
    match std::str::from_utf8(&message.body) {
        Ok(text) => whole["body"] = text.into(),
        Err(_) => whole["body_hex"] = hex(&message.body).into(),
    }
    whole
}

/// Of what does not change when the letter is delivered again, which the broker counts in a header.
fn id(message: &RawMessage, dead_at: Option<&str>) -> String {
    let message_id = message.properties.text(Property::MessageId).unwrap_or_default();
    let parts =
        [message_id.as_bytes(), dead_at.unwrap_or_default().as_bytes(), &message.routing_key, &message.body];
    let mut id = Uuid::new_v5(&Uuid::NAMESPACE_OID, &parts.join(&0)).simple().to_string();
    id.truncate(ID_CHARS);
    id
}

/// What the broker noted when it dead-lettered the message the last time: the first entry of `x-death`.
fn first_death(headers: &FieldTable) -> Option<&FieldTable> {
    match headers.inner().get("x-death")? {
        AMQPValue::FieldArray(deaths) => match deaths.as_slice().first()? {
            AMQPValue::FieldTable(death) => Some(death),
            _ => None,
        },
        _ => None,
    }
}

fn text(value: &AMQPValue) -> Option<String> {
    match value {
        AMQPValue::LongString(text) => Some(String::from_utf8_lossy(text.as_bytes()).into_owned()),
        AMQPValue::ShortString(text) => Some(text.as_str().to_owned()),
        _ => None,
    }
}

/// A header's value as JSON.
fn plain(value: &AMQPValue) -> Value {
    match value {
        AMQPValue::Boolean(value) => (*value).into(),
        AMQPValue::ShortShortInt(value) => (*value).into(),
        AMQPValue::ShortShortUInt(value) => (*value).into(),
        AMQPValue::ShortInt(value) => (*value).into(),
        AMQPValue::ShortUInt(value) => (*value).into(),
        AMQPValue::LongInt(value) => (*value).into(),
        AMQPValue::LongUInt(value) => (*value).into(),
        AMQPValue::LongLongInt(value) => (*value).into(),
        AMQPValue::Float(value) => (*value).into(),
        AMQPValue::Double(value) => (*value).into(),
        AMQPValue::Timestamp(value) => (*value).into(),
        AMQPValue::DecimalValue(value) => {
            json!({"scale": value.scale, "value": value.value})
        }
        AMQPValue::FieldArray(values) => values.as_slice().iter().map(plain).collect(),
        AMQPValue::FieldTable(table) => {
            table.inner().iter().map(|(name, value)| (name.as_str().to_owned(), plain(value))).collect()
        }
        AMQPValue::ByteArray(bytes) => hex(bytes.as_slice()).into(),
        AMQPValue::ShortString(_) | AMQPValue::LongString(_) => text(value).into(),
        AMQPValue::Void => Value::Null,
    }
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}"); // writing to a String does not fail
        hex
    })
}
