//! Properties that an event is published with.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, LongString, ShortString};

use crate::event::headers::TRACEPARENT;
use crate::message::{EncodedEvent, PERSISTENT};

/// Returns the properties of section 2 of the contract; `app_id` names the producer.
pub(super) fn of_event(event: &EncodedEvent, app_id: &ShortString) -> BasicProperties {
    let mut properties = BasicProperties::default()
        .with_content_type("application/json".into())
        .with_delivery_mode(PERSISTENT)
        .with_priority(event.priority)
        .with_app_id(app_id.clone())
        .with_message_id(short(&event.event_id))
        .with_type(short(&event.event_type));
    if let Ok(seconds) = u64::try_from(event.timestamp) {
        properties = properties.with_timestamp(seconds);
    }
    if let Some(traceparent) = &event.traceparent {
        let mut headers = FieldTable::default();
        headers.insert(TRACEPARENT.into(), AMQPValue::LongString(LongString::from(traceparent.as_str())));
        properties = properties.with_headers(headers);
    }
    properties
}

/// A short string holds 255 bytes. A longer text is whole in the body.
fn short(text: &str) -> ShortString {
    ShortString::try_new(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_has_the_properties_of_the_contract() {
        let event = EncodedEvent {
            body: Vec::new(),
            routing_key: "cns.cache.hit".into(),
            event_id: "id-1".into(),
            event_type: "cache_hit".into(),
            priority: 2,
            timestamp: 1_767_323_045,
            traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".into()),
        };
        let properties = of_event(&event, &"app".into());
        assert_eq!(properties.delivery_mode(), &Some(2));
        assert_eq!(properties.priority(), &Some(2));
        assert_eq!(properties.message_id().as_ref().unwrap().as_str(), "id-1");
        assert_eq!(properties.kind().as_ref().unwrap().as_str(), "cache_hit");
        assert_eq!(properties.app_id().as_ref().unwrap().as_str(), "app");
        assert_eq!(properties.timestamp(), &Some(1_767_323_045));
        assert!(properties.headers().as_ref().unwrap().contains_key(TRACEPARENT));
        assert_eq!(short(&"x".repeat(256)).as_str(), "", "it stands whole in the body");
    }
}
