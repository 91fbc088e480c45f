//! A rejected delivery as the message that goes to the dead-letter queue.

use chrono::{DateTime, SecondsFormat, Utc};

use super::reserved::{keep_headers, move_reserved_properties};
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
        move_reserved_properties(properties, &mut own);
        let max_bytes = max_properties_bytes.saturating_sub(PROPERTIES_RESERVE_BYTES);
        if properties.has_readable_headers() {
            // A header of an earlier dead letter, or one that a producer invented, is replaced.
            let is_replaced = |name: &str| headers::DEAD_LETTER.contains(&name);
            let left_out = keep_headers(&mut own, properties, max_bytes, is_replaced);
            if left_out > 0 {
                own.int(headers::HEADERS_LEFT_OUT, left_out);
            }
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

impl RejectedDelivery {
    /// Returns the body with the reason in its headers, without the message's own properties and headers: the broker refused
    /// those.
    pub(super) fn encode_stripped(&self, worker: &str, dead_at: DateTime<Utc>) -> RawMessage {
        let routing_key = self.delivery.routing_key.to_vec();
        let mut own = reason_headers(&self.rejection, &routing_key, worker, dead_at);
        let original = RawProperties::parse(&self.delivery.properties);
        let left_out = original.map_or(0, |original| original.headers().count());
        own.int(headers::HEADERS_LEFT_OUT, i64::try_from(left_out).unwrap_or(i64::MAX));
        let mut properties = RawProperties::default();
        properties.set_persistent();
        properties.set_headers(&own);
        RawMessage { routing_key, properties, body: self.delivery.body.to_vec() }
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

fn one_line(text: &str) -> String {
    let printable = text.chars().map(|character| if character.is_control() { ' ' } else { character });
    printable.take(MAX_TEXT_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::amqp::Property;
    use crate::event::Reason;

    const MAX_BYTES: usize = PROPERTIES_RESERVE_BYTES + 600;

    fn encode(properties: &RawProperties) -> RawMessage {
        let delivery = Delivery {
            channel: 1,
            tag: 1,
            redelivered: false,
            routing_key: bytes::Bytes::from_static(b"cns.x"),
            properties: properties.to_bytes().into(),
            body: bytes::Bytes::from_static(b"body"),
            skipped_bytes: None,
        };
        let rejection = Rejection::of(Reason::InvalidField, "bom_id", "is not\na UUID");
        RejectedDelivery { delivery, rejection }.encode("w-1", DateTime::UNIX_EPOCH, MAX_BYTES)
    }

    fn text(message: &RawMessage, name: &str) -> Option<String> {
        let values: Vec<_> =
            message.properties.headers().filter(|entry| entry.name == name.as_bytes()).collect();
        assert!(values.len() <= 1, "{name} stands {} times", values.len());
        values.first().and_then(|entry| entry.value.text()).map(std::borrow::Cow::into_owned)
    }

    #[test]
    fn reason_headers_replace_those_of_an_earlier_dead_letter() {
        let mut table = Table::default();
        table.text(headers::REASON, b"malformed_json");
        table.text(headers::SQLSTATE, b"23514");
        table.text("mine", b"kept");
        let mut properties = RawProperties::default();
        properties.set_headers(&table);
        let message = encode(&properties);
        assert_eq!(text(&message, headers::REASON).as_deref(), Some("invalid_field"));
        assert_eq!(text(&message, headers::DETAIL).as_deref(), Some("bom_id is not a UUID"));
        assert_eq!(text(&message, headers::FIELD).as_deref(), Some("bom_id"));
        assert_eq!(text(&message, headers::ROUTING_KEY).as_deref(), Some("cns.x"));
        assert_eq!(text(&message, headers::DEAD_AT).as_deref(), Some("1970-01-01T00:00:00.000Z"));
        assert_eq!(text(&message, headers::WORKER).as_deref(), Some("w-1"));
        assert_eq!(text(&message, headers::SQLSTATE), None);
        assert_eq!(text(&message, "mine").as_deref(), Some("kept"));
        assert_eq!((&message.routing_key[..], &message.body[..]), (&b"cns.x"[..], &b"body"[..]));
    }

    #[test]
    fn reserved_properties_become_headers() {
        let mut table = Table::default();
        table.text(headers::EXPIRATION, b"of an earlier dead letter");
        let mut properties = RawProperties::default()
            .with_text(Property::UserId, "guest")
            .with_text(Property::Expiration, "60000")
            .with_text(Property::MessageId, "m-1");
        properties.set_headers(&table);
        let message = encode(&properties);
        assert_eq!(text(&message, headers::USER_ID).as_deref(), Some("guest"));
        assert_eq!(text(&message, headers::EXPIRATION).as_deref(), Some("60000"));
        assert_eq!(message.properties.text(Property::UserId), None);
        assert_eq!(message.properties.text(Property::Expiration), None);
        assert_eq!(message.properties.text(Property::MessageId).as_deref(), Some("m-1"));
        assert_eq!(message.properties.number(Property::DeliveryMode), Some(2));
    }

    #[test]
    fn headers_that_do_not_fit_are_counted() {
        let mut table = Table::default();
        table.text("large", &[b'x'; 600]);
        table.text("small", b"kept");
        let mut properties = RawProperties::default();
        properties.set_headers(&table);
        let message = encode(&properties);
        assert_eq!(text(&message, "large"), None);
        assert_eq!(text(&message, "small").as_deref(), Some("kept"));
        let left_out =
            message.properties.headers().find(|entry| entry.name == headers::HEADERS_LEFT_OUT.as_bytes());
        assert_eq!(left_out.map(|entry| entry.value), Some(crate::amqp::table::Value::Int(1)));
    }

    #[test]
    fn unreadable_headers_are_kept_or_left_out_as_a_whole() {
        let unreadable = |padding: usize| {
            let mut table = Table::default();
            table.text("padding", &vec![b'x'; padding]);
            table.raw(b"\x01aZ");
            let mut properties = RawProperties::default();
            properties.set_headers(&table);
            encode(&properties)
        };
        let kept = unreadable(10);
        assert!(!kept.properties.has_readable_headers());
        assert!(kept.properties.to_bytes().ends_with(b"\x01aZ\x02"));
        assert_eq!(text(&kept, headers::REASON).as_deref(), Some("invalid_field"));
        let left_out = unreadable(600);
        assert!(left_out.properties.has_readable_headers());
        assert_eq!(text(&left_out, "padding"), None);
    }
}
