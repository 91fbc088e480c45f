//! Any bytes as the properties of a message: refused, or written again byte for byte. `make fuzz`.

#![no_main]

use cns_events::amqp::{Property, RawMessage, RawProperties};
use cns_events::dead_letters::{DeadLetter, to_json};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Some(properties) = RawProperties::parse(bytes) else { return };
    let written = properties.to_bytes();
    let again = RawProperties::parse(&written).expect("what was written can be read");
    assert_eq!(again, properties);
    // The flags of properties that do not exist are left out; all else is kept.
    assert_eq!(written[2..], bytes[2..]);
    if properties.check().is_ok() {
        assert_eq!(
            properties.utf8(Property::MessageId).is_some(),
            properties.text(Property::MessageId).is_some()
        );
    }
    let message =
        RawMessage { routing_key: b"cns.fuzz".to_vec(), properties: properties.to_owned(), body: Vec::new() };
    let json = to_json(&DeadLetter::decode(&message), &message);
    assert_eq!(json.get("properties_hex").is_some(), message.check().is_err());
});
