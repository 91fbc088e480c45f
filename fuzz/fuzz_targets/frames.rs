//! Any bytes as what the broker sends: frames, methods and contents are the same wherever the stream is cut. `make fuzz`.

#![no_main]

use cns_events::amqp::fuzz::read_stream;
use libfuzzer_sys::fuzz_target;

/// Types of frames: method, header, body, heartbeat.
const FRAME_TYPES: [u8; 4] = [1, 2, 3, 8];

/// Writes well-formed frames around the pieces of the input: without them the decoder of methods is hardly reached.
fn framed(mut input: &[u8]) -> Vec<u8> {
    let mut stream = Vec::new();
    while let Some((&[kind, channel, length], rest)) = input.split_first_chunk() {
        let (payload, rest) = rest.split_at(usize::from(length).min(rest.len()));
        input = rest;
        stream.extend_from_slice(&[FRAME_TYPES[usize::from(kind) % 4], 0, channel]);
        stream.extend_from_slice(&(payload.len() as u32).to_be_bytes());
        stream.extend_from_slice(payload);
        stream.push(0xce);
    }
    stream
}

fuzz_target!(|input: &[u8]| {
    let Some((&[mode, step], rest)) = input.split_first_chunk() else { return };
    let stream = if mode & 1 == 0 { rest.to_vec() } else { framed(rest) };
    let whole = read_stream([&stream[..]]);
    assert_eq!(read_stream(stream.chunks(usize::from(step) + 1)), whole);
    assert_eq!(read_stream(stream.chunks(1)), whole);
    let held: usize = whole.deliveries.iter().flatten().map(|part| part.len()).sum();
    assert!(held <= stream.len(), "no more is kept than has arrived");
});
