//! Any text as a keyset cursor of the read API: refused, or the cursor that its text says. `make fuzz`.

#![no_main]

use cns_events::store::read::Cursor;
use libfuzzer_sys::fuzz_target;

/// Bytes of a cursor: the time and the id.
const CURSOR_BYTES: usize = 24;

fuzz_target!(|input: &[u8]| {
    if let Ok(text) = std::str::from_utf8(input) {
        check(text);
    }
    // Any 24 bytes are a cursor.
    if let Some(bytes) = input.first_chunk::<CURSOR_BYTES>() {
        use base64::Engine as _;
        let text = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
        assert!(check(&text));
    }
});

fn check(text: &str) -> bool {
    let Ok(cursor) = text.parse::<Cursor>() else { return false };
    let written = cursor.to_string();
    assert_eq!(written.parse(), Ok(cursor));
    assert!(written.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte)));
    true
}
