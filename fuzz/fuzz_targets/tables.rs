//! Any bytes as the entries of a field table: walked without a panic, and to the last byte where the table is readable. `make fuzz`.

#![no_main]

use cns_events::amqp::fuzz::is_readable_table;
use cns_events::amqp::table::{Table, Value, entries, values};
use cns_events::amqp::{RawMessage, RawProperties};
use cns_events::dead_letters::{DeadLetter, to_json};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let walked: Vec<_> = entries(bytes).collect();
    let walked_bytes: usize = walked.iter().map(|entry| entry.raw.len()).sum();
    assert!(walked_bytes <= bytes.len());
    let readable = is_readable_table(bytes);
    if readable {
        assert_eq!(walked_bytes, bytes.len());
    }
    let mut copy = Table::default();
    for entry in &walked {
        match entry.value {
            Value::Array(array) => values(array).for_each(drop),
            Value::Table(table) => entries(table).for_each(drop),
            _ => {}
        }
        copy.raw(entry.raw);
    }
    let mut properties = RawProperties::default();
    properties.set_headers(&copy);
    assert_eq!(
        properties.headers().map(|entry| entry.raw).collect::<Vec<_>>(),
        walked.iter().map(|entry| entry.raw).collect::<Vec<_>>()
    );
    if readable {
        assert!(properties.has_readable_headers());
    }
    // A dead letter with these headers is listed, and exported as JSON that can be read again.
    let message = RawMessage { routing_key: b"cns.fuzz".to_vec(), properties, body: Vec::new() };
    let dead_letter = DeadLetter::decode(&message);
    let json = to_json(&dead_letter, &message).to_string();
    serde_json::from_str::<serde_json::Value>(&json).expect("JSON that can be read");
});
