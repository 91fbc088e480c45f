//! Any bytes as the payload of a method's frame. `make fuzz`.

#![no_main]

use cns_events::amqp::fuzz::decode_method;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|payload: &[u8]| {
    match decode_method(payload) {
        Ok(method) => {
            // Bytes behind the arguments are ignored: a later version of the protocol may append some.
            let longer = [payload, b"behind"].concat();
            assert_eq!(decode_method(&longer).expect("the same method"), method);
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
});
