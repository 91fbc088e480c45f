//! Between an AMQP message and an event: what stands in the body and what in the properties.

use chrono::{DateTime, Utc};
use lapin::message::Delivery;
use lapin::protocol::BasicProperties;
use lapin::types::ShortString;

use crate::event::{Event, Incoming};

/// `delivery_mode` of a message that the broker writes to disk (AMQP 0-9-1).
const PERSISTENT: u8 = 2;

/// A delivery as the decoder wants it.
#[must_use]
pub fn incoming(delivery: &Delivery, received_at: DateTime<Utc>) -> Incoming<'_> {
    let properties = &delivery.properties;
    Incoming {
        body: &delivery.data,
        routing_key: delivery.routing_key.as_str(),
        message_id: properties.message_id().as_ref().map(ShortString::as_str),
        event_type: properties.kind().as_ref().map(ShortString::as_str),
        timestamp: *properties.timestamp(),
        received_at,
    }
}

/// The properties of a published event; `app_id` names the producer.
#[must_use]
pub fn properties(event: &Event<'_>, app_id: &str) -> BasicProperties {
    let properties = BasicProperties::default()
        .with_content_type("application/json".into())
        .with_delivery_mode(PERSISTENT)
        .with_priority(event.priority())
        .with_app_id(short(app_id))
        .with_message_id(short(&event.event_id))
        .with_type(short(&event.event_type));
    match u64::try_from(event.created_at.timestamp()) {
        Ok(seconds) => properties.with_timestamp(seconds),
        Err(_) => properties,
    }
}

/// A short string holds 255 bytes. What does not fit stands whole in the body.
fn short(text: &str) -> ShortString {
    ShortString::try_new(text).unwrap_or_default()
}
