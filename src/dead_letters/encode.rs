//! A rejected delivery as the message that goes to the dead-letter queue.

use chrono::{DateTime, SecondsFormat, Utc};
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};

use super::reserved::move_reserved_properties;
use crate::amqp::{Delivery, RawMessage};
use crate::event::{Rejection, headers};

/// Bytes that a header frame needs beside the headers: ten short-string properties of 256 bytes at most, the framing, and
/// the headers that the broker adds when a dead letter is read. RabbitMQ closes a connection whose header frame exceeds
/// `frame_max`.
const PROPERTIES_RESERVE_BYTES: usize = 4096;

/// Longest text of a header that is about the dead letter, in characters.
const MAX_TEXT_CHARS: usize = 500;

/// Delivery that cannot be stored, and the reason.
#[derive(Clone, Debug)]
pub struct RejectedDelivery {
    /// Message as it was delivered.
    pub delivery: Delivery,
    /// Reason why it cannot be stored.
    pub rejection: Rejection,
}

impl RejectedDelivery {
    /// Returns the message as it was delivered, with the reason in its headers. `max_properties_bytes` is the size of the
    /// properties that fit into a frame.
    pub(super) fn encode(
        &self,
        worker: &str,
        dead_at: DateTime<Utc>,
        max_properties_bytes: usize,
    ) -> RawMessage {
        let mut message = self.delivery.message();
        let properties = &mut message.properties;
        let mut own = reason_headers(&self.rejection, &message.routing_key, worker, dead_at);
        move_reserved_properties(properties, &mut own);
        let max_bytes = max_properties_bytes.saturating_sub(PROPERTIES_RESERVE_BYTES);
        match properties.headers() {
            Some(original) => {
                keep_fitting(&mut own, &original, max_bytes);
                properties.set_headers(&own);
            }
            // There are none, or none that can be read: those are kept or left out as a whole.
            None => {
                let mut whole = properties.clone();
                whole.append_headers(&own);
                if whole.to_bytes().len() > max_bytes {
                    own.insert(headers::HEADERS_LEFT_OUT.into(), AMQPValue::LongLongInt(1));
                    whole.set_headers(&own);
                }
                *properties = whole;
            }
        }
        message
    }
}

/// Headers with the reason, the time and the worker.
fn reason_headers(
    rejection: &Rejection,
    routing_key: &[u8],
    worker: &str,
    dead_at: DateTime<Utc>,
) -> FieldTable {
    let mut table = FieldTable::default();
    let mut add = |name: &str, value: &[u8]| {
        table.insert(name.into(), AMQPValue::LongString(LongString::from(value)));
    };
    add(headers::REASON, rejection.reason.name().as_bytes());
    add(headers::DETAIL, one_line(&rejection.detail).as_bytes());
    if let Some(field) = &rejection.field {
        add(headers::FIELD, one_line(field).as_bytes());
    }
    if let Some(sqlstate) = &rejection.sqlstate {
        add(headers::SQLSTATE, sqlstate.as_bytes());
    }
    add(headers::ROUTING_KEY, routing_key);
    add(headers::DEAD_AT, dead_at.to_rfc3339_opts(SecondsFormat::Millis, true).as_bytes());
    add(headers::WORKER, worker.as_bytes());
    table
}

/// Adds the message's own headers to those of the dead letter as far as they fit, and counts the others in a header.
fn keep_fitting(own: &mut FieldTable, original: &FieldTable, max_bytes: usize) {
    let mut remaining_bytes = max_bytes.saturating_sub(table_bytes(own));
    let mut left_out = 0;
    for (name, value) in original.inner() {
        // A header of an earlier dead letter, or one that a producer invented, is replaced.
        if own.contains_key(name.as_str()) || headers::DEAD_LETTER.contains(&name.as_str()) {
            continue;
        }
        let bytes = entry_bytes(name, value);
        if bytes <= remaining_bytes {
            remaining_bytes -= bytes;
            own.insert(name.clone(), value.clone());
        } else {
            left_out += 1;
        }
    }
    if left_out > 0 {
        own.insert(headers::HEADERS_LEFT_OUT.into(), AMQPValue::LongLongInt(left_out));
    }
}

fn one_line(text: &str) -> String {
    let printable = text.chars().map(|character| if character.is_control() { ' ' } else { character });
    printable.take(MAX_TEXT_CHARS).collect()
}

fn table_bytes(table: &FieldTable) -> usize {
    4 + table.inner().iter().map(|(name, value)| entry_bytes(name, value)).sum::<usize>()
}

fn entry_bytes(name: &ShortString, value: &AMQPValue) -> usize {
    1 + name.as_str().len() + value_bytes(value)
}

/// Returns the encoded size of a value, its type byte included (AMQP 0-9-1, 4.2.5).
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
