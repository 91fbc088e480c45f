//! Event bodies, and the headers of messages.

use lapin::BasicProperties;
use lapin::message::BasicGetMessage;
use lapin::types::AMQPValue;

/// Returns the body of a valid event.
pub fn event(id: &str) -> String {
    format!(
        r#"{{"event_id":"{id}","event_type":"cache_hit","bom_id":"6f9619ff-8b86-4d01-b42d-00cf4fc964ff","organization_id":"org-1","source":"customer","workflow_id":"w-1","payload":{{"cache":"parts","key":"{id}"}},"created_at":"2026-01-02T03:04:05Z"}}"#
    )
}

/// Returns a header of a dead letter, as text.
pub fn header(letter: &BasicGetMessage, name: &str) -> Option<String> {
    header_of(&letter.properties, name)
}

/// Returns a header of a message, as text.
pub fn header_of(properties: &BasicProperties, name: &str) -> Option<String> {
    match properties.headers().as_ref()?.inner().get(name)? {
        AMQPValue::LongString(text) => Some(String::from_utf8_lossy(text.as_bytes()).into_owned()),
        other => Some(format!("{other:?}")),
    }
}

/// Checks for a header with this text in the bytes of a message's properties.
pub fn header_bytes(properties: &[u8], name: &str, value: &str) -> bool {
    let mut entry = vec![name.len() as u8];
    entry.extend_from_slice(name.as_bytes());
    entry.push(b'S');
    entry.extend_from_slice(&(value.len() as u32).to_be_bytes());
    entry.extend_from_slice(value.as_bytes());
    properties.windows(entry.len()).any(|window| window == entry)
}
