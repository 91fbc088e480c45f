//! A dead letter with its properties, headers and body as JSON.

use std::fmt::Write as _;

use lapin::types::AMQPValue;
use serde_json::{Map, Value, json};

use super::decode::{DeadLetter, text};
use crate::amqp::RawMessage;

/// Returns a dead letter and its whole message. Bytes that are not UTF-8 are added in hexadecimal.
#[must_use]
pub fn to_json(dead_letter: &DeadLetter, message: &RawMessage) -> Value {
    let headers: Map<String, Value> = message
        .properties
        .headers()
        .iter()
        .flat_map(|headers| headers.inner())
        .map(|(name, value)| (name.as_str().to_owned(), header_value(value)))
        .collect();
    let mut whole = json!(dead_letter);
    whole["properties"] = json!(message.properties.described());
    whole["headers"] = headers.into();
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

fn header_value(value: &AMQPValue) -> Value {
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
        AMQPValue::DecimalValue(value) => json!({"scale": value.scale, "value": value.value}),
        AMQPValue::FieldArray(values) => values.as_slice().iter().map(header_value).collect(),
        AMQPValue::FieldTable(table) => table
            .inner()
            .iter()
            .map(|(name, value)| (name.as_str().to_owned(), header_value(value)))
            .collect(),
        AMQPValue::ByteArray(bytes) => hex(bytes.as_slice()).into(),
        AMQPValue::ShortString(_) | AMQPValue::LongString(_) => text(value).into(),
        AMQPValue::Void => Value::Null,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}"); // writing to a String does not fail
        hex
    })
}
