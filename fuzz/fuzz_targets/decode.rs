//! Any bytes as a message: an event that can be written and read again, or a reason. `make fuzz`.

#![no_main]

use chrono::DateTime;
use cns_events::event::{Decoded, PayloadPolicy, ReceivedMessage, Rules, decode};
use libfuzzer_sys::fuzz_target;

const RULES: Rules = Rules { max_message_bytes: 1 << 20, payload: PayloadPolicy::Warn };

fn incoming(body: &[u8]) -> ReceivedMessage<'_> {
    ReceivedMessage {
        body,
        routing_key: "cns.fuzz",
        message_id: None,
        event_type: None,
        timestamp: None,
        received_at: DateTime::UNIX_EPOCH,
    }
}

fuzz_target!(|body: &[u8]| {
    match decode(&incoming(body), &RULES) {
        Ok(Decoded { event, .. }) => {
            let again = event.to_json().expect("an event can be written");
            let second =
                decode(&incoming(&again), &RULES).expect("what was stored can be stored again").event;
            assert_eq!(format!("{event:?}"), format!("{second:?}"));
        }
        Err(rejection) => assert!(!rejection.detail.is_empty() && !rejection.detail.contains('\n')),
    }
});
