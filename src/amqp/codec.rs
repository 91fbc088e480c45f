//! Frames as bytes (AMQP 0-9-1, 4.2.3): cut from what was read, and written. Pure.
//!
//! ```text
//! 0      1         3       7           7 + size
//! ┌──────┬─────────┬───────┬───────────┬──────┐
//! │ type │ channel │ size  │  payload  │ 0xce │
//! │  u8  │   u16   │  u32  │ size bytes│  u8  │
//! └──────┴─────────┴───────┴───────────┴──────┘
//! ```

use bytes::{BufMut, Bytes, BytesMut};

use super::AmqpError;

/// The protocol header of AMQP 0-9-1; the broker answers with `connection.start`.
pub(super) const PROTOCOL_HEADER: &[u8] = b"AMQP\0\0\x09\x01";

/// Last byte of every frame.
const FRAME_END: u8 = 0xce;

/// Bytes of a frame before its payload: type, channel and size.
const FRAME_HEAD_BYTES: usize = 7;

/// Bytes of a frame around its payload.
pub(super) const FRAME_OVERHEAD_BYTES: usize = FRAME_HEAD_BYTES + 1;

/// Bytes of a content header before the properties: class, weight and body size.
pub(super) const CONTENT_HEADER_BYTES: usize = 12;

/// Largest payload that is kept. RabbitMQ adds headers of its own to a message, and hands on headers of AMQP 1.0 clients in one
/// frame of any size, beyond the frame size that was agreed.
pub(super) const MAX_PAYLOAD_BYTES: usize = 4 * 1024 * 1024;

/// Type of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FrameType {
    /// A method.
    Method = 1,
    /// Size and properties of a content.
    Header = 2,
    /// A part of a content's body.
    Body = 3,
    /// A sign of life.
    Heartbeat = 8,
}

impl FrameType {
    fn from_byte(byte: u8) -> Option<Self> {
        [FrameType::Method, FrameType::Header, FrameType::Body, FrameType::Heartbeat]
            .into_iter()
            .find(|kind| *kind as u8 == byte)
    }
}

/// One frame: a slice of what was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub(super) kind: FrameType,
    pub(super) channel: u16,
    pub(super) payload: Bytes,
    /// Size of the whole payload where it passed [`MAX_PAYLOAD_BYTES`]: then `payload` is its beginning only.
    pub(super) skipped_bytes: Option<usize>,
}

/// Cuts frames from a stream of bytes. A payload beyond the limit is skipped as it arrives, never held.
#[derive(Debug, Default)]
pub(super) struct Cutter {
    skipping: Option<Skipping>,
}

/// Payload that is being skipped.
#[derive(Debug)]
struct Skipping {
    frame: Frame,
    /// Bytes still to be dropped, the frame's last byte included.
    left_bytes: usize,
}

impl Cutter {
    /// Takes the next frame from `input`; `None` where more has to be read first.
    pub(super) fn cut(&mut self, input: &mut BytesMut) -> Result<Option<Frame>, AmqpError> {
        if let Some(skipping) = &mut self.skipping {
            let dropped = input.split_to(skipping.left_bytes.min(input.len()));
            skipping.left_bytes -= dropped.len();
            if skipping.left_bytes > 0 {
                return Ok(None);
            }
            ends_well(&dropped)?;
            return Ok(self.skipping.take().map(|skipping| skipping.frame));
        }
        let Some(&[kind, c0, c1, s0, s1, s2, s3]) = input.first_chunk::<FRAME_HEAD_BYTES>() else {
            return Ok(None);
        };
        let kind = FrameType::from_byte(kind)
            .ok_or_else(|| AmqpError::Protocol(format!("a frame of unknown type {kind}")))?;
        let channel = u16::from_be_bytes([c0, c1]);
        let size = usize::try_from(u32::from_be_bytes([s0, s1, s2, s3])).unwrap_or(usize::MAX);
        if size > MAX_PAYLOAD_BYTES {
            return self.begin_to_skip(input, kind, channel, size);
        }
        let whole = size + FRAME_OVERHEAD_BYTES;
        if input.len() < whole {
            input.reserve(whole - input.len());
            return Ok(None);
        }
        let frame = input.split_to(whole).freeze();
        ends_well(&frame)?;
        let payload = frame.slice(FRAME_HEAD_BYTES..whole - 1);
        Ok(Some(Frame { kind, channel, payload, skipped_bytes: None }))
    }

    /// Keeps the beginning of a payload, as a content header has the body's size there, and skips the rest.
    fn begin_to_skip(
        &mut self,
        input: &mut BytesMut,
        kind: FrameType,
        channel: u16,
        size: usize,
    ) -> Result<Option<Frame>, AmqpError> {
        if kind != FrameType::Header {
            return Err(AmqpError::Protocol(format!("a frame of {size} bytes")));
        }
        if input.len() < FRAME_HEAD_BYTES + CONTENT_HEADER_BYTES {
            return Ok(None);
        }
        let head = input.split_to(FRAME_HEAD_BYTES + CONTENT_HEADER_BYTES);
        let payload = Bytes::copy_from_slice(&head[FRAME_HEAD_BYTES..]);
        let left_bytes = size - CONTENT_HEADER_BYTES + 1;
        let frame = Frame { kind, channel, payload, skipped_bytes: Some(size) };
        self.skipping = Some(Skipping { frame, left_bytes });
        self.cut(input)
    }
}

fn ends_well(frame: &[u8]) -> Result<(), AmqpError> {
    match frame.last() {
        Some(&FRAME_END) => Ok(()),
        _ => Err(AmqpError::Protocol("a frame without its end".into())),
    }
}

/// Writes a frame.
pub(super) fn write_frame(output: &mut BytesMut, kind: FrameType, channel: u16, payload: &[u8]) {
    output.reserve(payload.len() + FRAME_OVERHEAD_BYTES);
    output.put_u8(kind as u8);
    output.put_u16(channel);
    output.put_u32(u32::try_from(payload.len()).unwrap_or(u32::MAX));
    output.put_slice(payload);
    output.put_u8(FRAME_END);
}

/// Returns the parts of a content header: the size of the body, and the properties (AMQP 0-9-1, 4.2.6.1).
pub(super) fn content_header(payload: &Bytes) -> Result<(usize, Bytes), AmqpError> {
    let size =
        payload.get(4..CONTENT_HEADER_BYTES).and_then(|size| size.try_into().ok()).map(u64::from_be_bytes);
    let size = size.and_then(|size| usize::try_from(size).ok());
    let size = size.ok_or_else(|| AmqpError::Protocol("a content header that is too short".into()))?;
    Ok((size, payload.slice(CONTENT_HEADER_BYTES..)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn frames(bytes: &[u8], step: usize) -> Vec<Frame> {
        let (mut cutter, mut input, mut frames) = (Cutter::default(), BytesMut::new(), Vec::new());
        for part in bytes.chunks(step.max(1)) {
            input.extend_from_slice(part);
            while let Some(frame) = cutter.cut(&mut input).unwrap() {
                frames.push(frame);
            }
        }
        assert!(input.is_empty());
        frames
    }

    #[test]
    fn a_payload_beyond_the_limit_is_skipped_and_its_neighbours_are_read() {
        let mut bytes = BytesMut::new();
        write_frame(&mut bytes, FrameType::Method, 1, b"before");
        let mut large = vec![0; MAX_PAYLOAD_BYTES + 1];
        large[4..12].copy_from_slice(&7_u64.to_be_bytes());
        write_frame(&mut bytes, FrameType::Header, 2, &large);
        write_frame(&mut bytes, FrameType::Body, 2, b"behind");
        for step in [1000, 65_536, bytes.len()] {
            let frames = frames(&bytes, step);
            let payloads: Vec<_> = frames.iter().map(|frame| frame.payload.len()).collect();
            assert_eq!(payloads, [6, CONTENT_HEADER_BYTES, 6]);
            assert_eq!(frames[1].skipped_bytes, Some(MAX_PAYLOAD_BYTES + 1));
            assert_eq!(content_header(&frames[1].payload).unwrap(), (7, Bytes::new()));
        }
    }

    #[test]
    fn what_is_not_a_frame_is_an_error() {
        let cut = |bytes: &[u8]| Cutter::default().cut(&mut BytesMut::from(bytes));
        assert!(cut(b"\x01\0\x01\0\0\0\x01x\0").is_err(), "without its end");
        assert!(cut(b"\x07\0\x01\0\0\0\x01x\xce").is_err(), "of unknown type");
        assert!(cut(b"\x03\0\x01\xff\xff\xff\xff").is_err(), "a body beyond every limit");
        assert!(matches!(cut(b"\x01\0\x01\0\0\0\x01x"), Ok(None)), "not whole yet");
        assert!(content_header(&Bytes::from_static(b"short")).is_err());
    }

    proptest! {
        #[test]
        fn any_cut_of_the_stream_gives_the_same_frames(
            payloads in proptest::collection::vec((any::<u16>(), proptest::collection::vec(any::<u8>(), 0..300)), 0..20),
            step in 1_usize..700,
        ) {
            let mut bytes = BytesMut::new();
            for (channel, payload) in &payloads {
                write_frame(&mut bytes, FrameType::Body, *channel, payload);
            }
            let read: Vec<_> = frames(&bytes, step).into_iter().map(|frame| (frame.channel, frame.payload.to_vec())).collect();
            prop_assert_eq!(read, payloads);
        }

        #[test]
        fn any_bytes_are_frames_or_an_error(bytes: Vec<u8>) {
            let (mut cutter, mut input) = (Cutter::default(), BytesMut::from(&bytes[..]));
            while let Ok(Some(_)) = cutter.cut(&mut input) {}
        }
    }
}
