//! A dead letter with its properties, headers and body as JSON.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::decode::DeadLetter;
use crate::amqp::RawMessage;
use crate::amqp::table::{self, Value as HeaderValue};

/// Nesting of headers that is shown as JSON: no operator reads deeper, and each level is a call.
const MAX_SHOWN_DEPTH: usize = 32;

/// Returns a dead letter and its whole message. Bytes that are not UTF-8 are added in hexadecimal.
#[must_use]
pub fn to_json(dead_letter: &DeadLetter, message: &RawMessage) -> Value {
    let headers: Map<String, Value> = message
        .properties
        .headers()
        .map(|entry| (String::from_utf8_lossy(entry.name).into_owned(), header_value(entry.value, 0)))
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

/// Returns a header's value as JSON; what is nested too deep to read is shown in hexadecimal.
fn header_value(value: HeaderValue<'_>, depth: usize) -> Value {
    match value {
        HeaderValue::Text(text) => String::from_utf8_lossy(text).into_owned().into(),
        HeaderValue::Bytes(bytes) => hex(bytes).into(),
        HeaderValue::Bool(value) => value.into(),
        HeaderValue::Int(value) => value.into(),
        HeaderValue::Unsigned(value) | HeaderValue::Timestamp(value) => value.into(),
        HeaderValue::Float(value) => value.into(),
        HeaderValue::Decimal(scale, value) => json!({"scale": scale, "value": value}),
        HeaderValue::Array(bytes) | HeaderValue::Table(bytes) if depth >= MAX_SHOWN_DEPTH => {
            hex(bytes).into()
        }
        HeaderValue::Array(array) => {
            table::values(array).map(|value| header_value(value, depth + 1)).collect()
        }
        HeaderValue::Table(table) => table::entries(table)
            .map(|entry| {
                (String::from_utf8_lossy(entry.name).into_owned(), header_value(entry.value, depth + 1))
            })
            .collect(),
        HeaderValue::Void => Value::Null,
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut hex, byte| {
        let _ = write!(hex, "{byte:02x}"); // writing to a String does not fail
        hex
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amqp::RawProperties;
    use crate::amqp::table::Table;

    #[test]
    fn headers_of_any_depth_are_printed() {
        let mut nested = Vec::new();
        for _ in 0..25_000 {
            let length = u32::try_from(nested.len()).unwrap().to_be_bytes();
            nested = [b"A", &length[..], &nested].concat();
        }
        let mut table = Table::default();
        table.raw(&[b"\x04deep", &nested[..]].concat());
        table.int("number", 7);
        let mut properties = RawProperties::default();
        properties.set_headers(&table);
        let message = RawMessage { routing_key: b"cns.x".to_vec(), properties, body: b"\xff".to_vec() };
        let json = to_json(&DeadLetter::decode(&message), &message);
        assert!(serde_json::from_str::<Value>(&json.to_string()).is_ok());
        assert_eq!((&json["headers"]["number"], &json["body_hex"]), (&json!(7), &json!("ff")));
    }
}
