//! A rejected delivery as the message that goes to the dead-letter queue.

use chrono::{DateTime, SecondsFormat, Utc};

use super::reserved::{is_reserved, move_reserved};
use crate::amqp::table::Table;
use crate::amqp::{Delivery, RawMessage, RawProperties};
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
        move_reserved(properties, &mut own);
        let max_bytes = max_properties_bytes.saturating_sub(PROPERTIES_RESERVE_BYTES);
        if properties.has_readable_headers() {
            keep_fitting(&mut own, properties, max_bytes);
            properties.set_headers(&own);
        } else {
            // There are none, or none that can be read: those are kept or left out as a whole.
            let mut whole = properties.clone();
            whole.set_headers(&properties.headers_behind(&own));
            if whole.to_bytes().len() > max_bytes {
                own.int(headers::HEADERS_LEFT_OUT, 1);
                whole.set_headers(&own);
            }
            *properties = whole;
        }
        message
    }
}

/// Headers with the reason, the time and the worker.
fn reason_headers(rejection: &Rejection, routing_key: &[u8], worker: &str, dead_at: DateTime<Utc>) -> Table {
    let mut table = Table::default();
    let mut add = |name: &str, value: &[u8]| table.text(name, value);
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
fn keep_fitting(own: &mut Table, original: &RawProperties, max_bytes: usize) {
    let mut left_out = 0;
    for entry in original.headers() {
        let name = String::from_utf8_lossy(entry.name);
        // A header of an earlier dead letter, one that a producer invented, and a second one of the same name are replaced; so
        // is one that has moved aside.
        if own.contains(entry.name) || headers::DEAD_LETTER.contains(&name.as_ref()) || is_reserved(&name) {
            continue;
        }
        if own.size() + entry.raw.len() <= max_bytes {
            own.raw(entry.raw);
        } else {
            left_out += 1;
        }
    }
    if left_out > 0 {
        own.int(headers::HEADERS_LEFT_OUT, left_out);
    }
}

fn one_line(text: &str) -> String {
    let printable = text.chars().map(|character| if character.is_control() { ' ' } else { character });
    printable.take(MAX_TEXT_CHARS).collect()
}
