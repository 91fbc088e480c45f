//! A message of the dead-letter queue, understood.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::amqp::table::{self, Value as HeaderValue};
use crate::amqp::{Property, RawMessage, RawProperties};
use crate::event::headers;

/// Characters of a dead letter's id: enough to distinguish any two of a queue.
const ID_CHARS: usize = 12;

/// Reason of a message that says none: a producer, or the broker's alternate exchange, put it into the queue.
const UNROUTED: &str = "unrouted";

/// Dead letter without its body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DeadLetter {
    /// Id that stays the same each time that the dead letter is read.
    pub id: String,
    /// Time at which the worker or the broker dead-lettered the message.
    pub dead_at: Option<DateTime<Utc>>,
    /// Reason of the contract, the broker's own (`delivery_limit`, `rejected`, `expired`, `maxlen`), or `unrouted`.
    pub reason: String,
    /// Field at fault.
    pub field: Option<String>,
    /// Description of the rejection.
    pub detail: Option<String>,
    /// SQLSTATE of the database's error.
    pub sqlstate: Option<String>,
    /// Name of the worker that dead-lettered the message.
    pub worker: Option<String>,
    /// Routing key that the message was published with.
    pub routing_key: String,
    /// `event_id` of the body, or the property `message_id`.
    pub event_id: Option<String>,
    /// `event_type` of the body, or the property `type`.
    pub event_type: Option<String>,
    /// `bom_id` of the body.
    pub bom_id: Option<String>,
    /// Number of times that the message was replayed.
    pub replays: i64,
    /// Size of the body in bytes.
    pub bytes: usize,
}

impl DeadLetter {
    /// Reads a message of the dead-letter queue. Every message is one: what it lacks stays empty.
    #[must_use]
    pub fn decode(message: &RawMessage) -> Self {
        let properties = &message.properties;
        let header = |name: &str| header(properties, name).and_then(text);
        let death = last_death(properties);
        let of_death = |name: &str| table::entries(death).find(|entry| entry.name == name.as_bytes());
        let reason = header(headers::REASON)
            .or_else(|| of_death("reason").and_then(|entry| text(entry.value)))
            .or_else(|| message.check().err().map(|rejection| rejection.reason.name().to_owned()));
        let dead_at = header(headers::DEAD_AT)
            .and_then(|at| DateTime::parse_from_rfc3339(&at).ok())
            .map(|at| at.with_timezone(&Utc))
            .or_else(|| match of_death("time")?.value {
                HeaderValue::Timestamp(at) => DateTime::from_timestamp(i64::try_from(at).ok()?, 0),
                _ => None,
            });
        let body: Value = serde_json::from_slice(&message.body).unwrap_or_default();
        let field = |name: &str| body[name].as_str().map(str::to_owned);
        let property =
            |property| properties.text(property).map(Cow::into_owned).filter(|text| !text.is_empty());
        DeadLetter {
            id: id(message, header(headers::DEAD_AT).as_deref()),
            dead_at,
            reason: reason.unwrap_or_else(|| UNROUTED.into()),
            field: header(headers::FIELD),
            detail: header(headers::DETAIL),
            sqlstate: header(headers::SQLSTATE),
            worker: header(headers::WORKER),
            routing_key: header(headers::ROUTING_KEY)
                .unwrap_or_else(|| String::from_utf8_lossy(&message.routing_key).into_owned()),
            event_id: field("event_id").or_else(|| property(Property::MessageId)),
            event_type: field("event_type").or_else(|| property(Property::Type)),
            bom_id: field("bom_id"),
            replays: replays(properties),
            bytes: message.body.len(),
        }
    }
}

/// Returns the value of a header.
pub(super) fn header<'a>(properties: &'a RawProperties, name: &str) -> Option<HeaderValue<'a>> {
    properties.headers().find(|entry| entry.name == name.as_bytes()).map(|entry| entry.value)
}

/// Returns the number of times that a message was replayed.
pub(super) fn replays(properties: &RawProperties) -> i64 {
    match header(properties, headers::REPLAYS) {
        Some(HeaderValue::Int(count)) => count,
        _ => 0,
    }
}

/// Returns a hash of everything that stays the same when the broker delivers the message again.
fn id(message: &RawMessage, dead_at: Option<&str>) -> String {
    let message_id = message.properties.text(Property::MessageId).unwrap_or_default();
    let parts =
        [message_id.as_bytes(), dead_at.unwrap_or_default().as_bytes(), &message.routing_key, &message.body];
    let mut id = Uuid::new_v5(&Uuid::NAMESPACE_OID, &parts.join(&0)).simple().to_string();
    id.truncate(ID_CHARS);
    id
}

/// Returns the entries of the broker's note on the last time that it dead-lettered the message: the first entry of `x-death`.
fn last_death(properties: &RawProperties) -> &[u8] {
    let Some(HeaderValue::Array(deaths)) = header(properties, headers::X_DEATH) else { return &[] };
    match table::values(deaths).next() {
        Some(HeaderValue::Table(death)) => death,
        _ => &[],
    }
}

/// Returns the text of a header, with U+FFFD for what is not UTF-8.
pub(super) fn text(value: HeaderValue<'_>) -> Option<String> {
    value.text().map(Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amqp::table::Table;

    fn message(headers: &Table, body: &str) -> RawMessage {
        let mut properties = RawProperties::default().with_text(Property::MessageId, "m-1");
        properties.set_headers(headers);
        RawMessage { routing_key: b"cns.dead".to_vec(), properties, body: body.into() }
    }

    #[test]
    fn headers_of_the_worker_describe_a_dead_letter() {
        let mut table = Table::default();
        table.text(headers::REASON, b"unstorable");
        table.text(headers::FIELD, b"payload");
        table.text(headers::ROUTING_KEY, b"cns.x");
        table.text(headers::DEAD_AT, b"1970-01-01T00:01:00Z");
        table.int(headers::REPLAYS, 3);
        let read = DeadLetter::decode(&message(&table, r#"{"event_type":"cache_hit"}"#));
        assert_eq!((read.reason.as_str(), read.field.as_deref()), ("unstorable", Some("payload")));
        assert_eq!((read.routing_key.as_str(), read.replays), ("cns.x", 3));
        assert_eq!(read.dead_at, DateTime::from_timestamp(60, 0));
        assert_eq!((read.event_id.as_deref(), read.event_type.as_deref()), (Some("m-1"), Some("cache_hit")));
        assert_eq!(read.id.len(), ID_CHARS);
    }

    #[test]
    fn x_death_describes_a_dead_letter_of_the_broker() {
        // x-death: an array with one table: reason `rejected`, time 60.
        let death = b"\x06reasonS\0\0\0\x08rejected\x04timeT\0\0\0\0\0\0\0\x3c";
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap().to_be_bytes();
        let value = [b"F", &length(death)[..], death].concat();
        let mut table = Table::default();
        table.raw(&[b"\x07x-deathA", &length(&value)[..], &value].concat());
        let read = DeadLetter::decode(&message(&table, ""));
        assert_eq!((read.reason.as_str(), read.dead_at), ("rejected", DateTime::from_timestamp(60, 0)));
        assert_eq!(read.routing_key, "cns.dead");
        assert_eq!(DeadLetter::decode(&message(&Table::default(), "")).reason, UNROUTED);
    }
}
