//! Transport in and out: methods, and contents as their bytes are.

use std::time::Duration;

use bytes::{BufMut, Bytes, BytesMut};
use lapin::protocol::{AMQPClass, basic, channel, connection, gen_class, parse_class};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::properties::{RawProperties, generated};
use super::{BASIC, CHANNEL, RawMessage};
use crate::broker::Stream;

/// The protocol header of AMQP 0-9-1; the broker answers with `connection.start` and its properties.
const HEADER: &[u8] = b"AMQP\0\0\x09\x01";

/// Frame types and the byte that ends a frame (AMQP 0-9-1, 4.2.3).
const METHOD: u8 = 1;
const CONTENT_HEADER: u8 = 2;
const CONTENT_BODY: u8 = 3;
const HEARTBEAT: u8 = 8;
const END: u8 = 0xce;

/// Bytes of a frame around its payload: type, channel and length before it, the end behind it.
const FRAME_OVERHEAD: u32 = 8;
const FRAME_HEAD: usize = 7;
const FRAME_AROUND: usize = FRAME_HEAD + 1;

/// Room that is made for what comes (bytes). What was read stays where it is: messages are slices of it.
const READ_BYTES: usize = 64 * 1024;

/// Room below which more is made: a call to the system for less costs more than the memory.
const MIN_READ_BYTES: usize = 8 * 1024;

/// The largest frame that this side agrees to send; it also stands for a broker that sets no limit (RabbitMQ's default).
pub(super) const MAX_FRAME_BYTES: u32 = 131_072;

/// The largest that is read: RabbitMQ adds headers of its own to a message, beyond what was agreed.
const MAX_READ_BYTES: u32 = 4 * 1024 * 1024;

/// What a content header has beside the properties: class, weight and size, and the frame around it.
const CONTENT_HEADER_OVERHEAD: u32 = 12 + FRAME_OVERHEAD;

/// How long the broker may take to answer.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a connection of this kind failed.
#[derive(Debug, thiserror::Error)]
pub enum AmqpError {
    /// The network.
    #[error("IO error: {0}")]
    Io(#[from] std::io::Error),
    /// The broker ended the channel or the connection.
    #[error("the broker says: {text}")]
    Closed {
        /// The reply code (AMQP 0-9-1, 1.2).
        code: u16,
        /// The broker's words.
        text: String,
    },
    /// An alarm blocks publishing.
    #[error("the broker blocks publishers: {0}")]
    Blocked(String),
    /// The broker ended the consumer.
    #[error("the broker ended the consumer: was the queue deleted?")]
    Cancelled,
    /// The broker said nothing in time.
    #[error("the broker did not answer within 10 s")]
    Silence,
    /// What came is not what had to come.
    #[error("the broker's answer is not understood: {0}")]
    Protocol(String),
}

impl AmqpError {
    pub(super) fn unexpected(class: &AMQPClass) -> Self {
        AmqpError::Protocol(format!("unexpected {class:?}"))
    }
}

/// What comes in: slices of what was read.
pub(super) enum Frame {
    /// A method: its channel, its class and number, its arguments.
    Method(u16, (u16, u16), Bytes),
    /// A part of a content: its channel, its frame type (header or body), its payload.
    Content(u16, u8, Bytes),
}

impl Frame {
    /// A method whose strings are the broker's own.
    pub(super) fn parse(self) -> Result<AMQPClass, AmqpError> {
        let Frame::Method(_, (class, method), arguments) = self else {
            return Err(AmqpError::Protocol("content where a method had to be".into()));
        };
        let payload = [&class.to_be_bytes()[..], &method.to_be_bytes(), &arguments].concat();
        match parse_class(payload.as_slice()) {
            Ok((_, class)) => Ok(class),
            Err(_) => Err(AmqpError::Protocol(format!("method {class}.{method}"))),
        }
    }
}

/// A stream of frames.
pub(super) struct Transport {
    stream: Box<dyn Stream>,
    /// Read, and not a whole frame yet.
    input: BytesMut,
    /// Written, and not sent yet.
    output: BytesMut,
    max_frame_bytes: u32,
    heartbeat: Option<Duration>,
}

impl Transport {
    /// Those of a stream that the broker has accepted, before anything was agreed; the protocol header goes out first.
    pub(super) fn of(stream: Box<dyn Stream>) -> Self {
        Transport {
            stream,
            input: BytesMut::new(),
            output: BytesMut::from(HEADER),
            max_frame_bytes: MAX_FRAME_BYTES,
            heartbeat: None,
        }
    }

    /// What both sides agreed.
    pub(super) fn agree(&mut self, max_frame_bytes: u32, heartbeat: Option<Duration>) {
        (self.max_frame_bytes, self.heartbeat) = (max_frame_bytes, heartbeat);
    }

    /// The next method; the broker's end of the channel or the connection is an error.
    pub(super) async fn method(&mut self) -> Result<AMQPClass, AmqpError> {
        self.next().await?.parse()
    }

    /// The next frame. Heartbeats and notices pass; the broker's end of the channel or the connection is an error.
    pub(super) async fn next(&mut self) -> Result<Frame, AmqpError> {
        loop {
            if let Some(frame) = self.read()? {
                return Ok(frame);
            }
            tokio::time::timeout(ANSWER_TIMEOUT, self.fill()).await.map_err(|_| AmqpError::Silence)??;
        }
    }

    /// The next frame of what has come so far, as [`Transport::next`] has it.
    pub(super) fn read(&mut self) -> Result<Option<Frame>, AmqpError> {
        while let Some((kind, channel, payload)) = self.cut()? {
            let frame = match kind {
                METHOD if payload.len() >= 4 => {
                    let number = |at: usize| u16::from_be_bytes([payload[at], payload[at + 1]]);
                    let method = (number(0), number(2));
                    noticed(Frame::Method(channel, method, payload.slice(4..)))?
                }
                CONTENT_HEADER | CONTENT_BODY => Some(Frame::Content(channel, kind, payload)),
                HEARTBEAT => None,
                _ => return Err(AmqpError::Protocol(format!("a frame of type {kind}"))),
            };
            if frame.is_some() {
                return Ok(frame);
            }
        }
        Ok(None)
    }

    /// Takes a whole frame from what was read: its type, its channel, its payload.
    fn cut(&mut self) -> Result<Option<(u8, u16, Bytes)>, AmqpError> {
        let Some(&[kind, high, low, a, b, c, d]) = self.input.first_chunk::<FRAME_HEAD>() else {
            return Ok(None);
        };
        let size = u32::from_be_bytes([a, b, c, d]);
        if size > MAX_READ_BYTES {
            return Err(AmqpError::Protocol(format!("a frame of {size} bytes")));
        }
        let whole = usize::try_from(size).unwrap_or(usize::MAX).saturating_add(FRAME_AROUND);
        if self.input.len() < whole {
            self.input.reserve(whole - self.input.len());
            return Ok(None);
        }
        let frame = self.input.split_to(whole).freeze();
        if frame[whole - 1] != END {
            return Err(AmqpError::Protocol("a frame without its end".into()));
        }
        Ok(Some((kind, u16::from_be_bytes([high, low]), frame.slice(FRAME_HEAD..whole - 1))))
    }

    /// Waits for something to come, and reads it. Cancel-safe.
    pub(super) async fn fill(&mut self) -> Result<(), AmqpError> {
        if self.input.capacity() - self.input.len() < MIN_READ_BYTES {
            self.input.reserve(READ_BYTES);
        }
        match self.stream.read_buf(&mut self.input).await? {
            0 => Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into()),
            _ => Ok(()),
        }
    }

    /// Waits for anything to come, at most so long; whether something did. Nothing is taken.
    pub(super) async fn anything_within(&mut self, patience: Duration) -> Result<bool, AmqpError> {
        if !self.input.is_empty() {
            return Ok(true);
        }
        match tokio::time::timeout(patience, self.fill()).await {
            Ok(filled) => filled.map(|()| true),
            Err(_) => Ok(false),
        }
    }

    /// How often both sides say that they live, where that was agreed.
    pub(super) fn heartbeat(&self) -> Option<Duration> {
        self.heartbeat
    }

    /// What the properties of a message may take, in bytes, so that they fit a frame that was agreed.
    pub(super) fn max_properties_bytes(&self) -> usize {
        usize::try_from(self.max_frame_bytes - CONTENT_HEADER_OVERHEAD).unwrap_or(usize::MAX)
    }

    /// The content behind a method: properties and body.
    pub(super) async fn content(&mut self, channel: u16) -> Result<(RawProperties, Vec<u8>), AmqpError> {
        let header = self.part(channel, CONTENT_HEADER).await?;
        let (size, properties) = content_header(&header)?;
        let properties = RawProperties::parse(&properties)
            .ok_or_else(|| AmqpError::Protocol(NO_HEADER.into()))?
            .to_owned();
        let mut body = Vec::new();
        while body.len() < size {
            body.extend_from_slice(&self.part(channel, CONTENT_BODY).await?);
        }
        Ok((properties, body))
    }

    /// RabbitMQ writes the frames of a message without others between them; anything else is not understood.
    async fn part(&mut self, channel: u16, kind: u8) -> Result<Bytes, AmqpError> {
        match self.next().await? {
            Frame::Content(of, part, payload) if (of, part) == (channel, kind) => Ok(payload),
            Frame::Content(..) => Err(AmqpError::Protocol("a part of another message".into())),
            method => Err(AmqpError::unexpected(&method.parse()?)),
        }
    }

    /// Sends a method.
    pub(super) async fn send(&mut self, channel: u16, class: AMQPClass) -> Result<(), AmqpError> {
        self.write(METHOD, channel, &generated(gen_class(&class)));
        self.flush().await
    }

    /// Writes a heartbeat; [`Transport::flush`] sends it.
    pub(super) fn write_heartbeat(&mut self) {
        self.write(HEARTBEAT, 0, &[]);
    }

    /// Writes a message, mandatory; [`Transport::flush`] sends it.
    pub(super) fn write_message(&mut self, exchange: &str, message: &RawMessage) -> Result<(), AmqpError> {
        let key_bytes = u8::try_from(message.routing_key.len())
            .map_err(|_| AmqpError::Protocol("a routing key of more than 255 bytes".into()))?;
        let publish = basic::Publish {
            exchange: exchange.into(),
            routing_key: "".into(),
            mandatory: true,
            immediate: false,
        };
        let mut method = generated(gen_class(&AMQPClass::Basic(basic::AMQPMethod::Publish(publish))));
        // The routing key is bytes, UTF-8 or not: the empty one stands before the flags.
        let flags = method.pop().unwrap_or_default();
        method.pop();
        method.push(key_bytes);
        method.extend_from_slice(&message.routing_key);
        method.push(flags);
        self.write(METHOD, CHANNEL, &method);
        let mut header = Vec::new();
        header.extend_from_slice(&BASIC.to_be_bytes());
        header.extend_from_slice(&0_u16.to_be_bytes());
        header.extend_from_slice(&(message.body.len() as u64).to_be_bytes());
        header.extend_from_slice(&message.properties.to_bytes());
        self.write(CONTENT_HEADER, CHANNEL, &header);
        let part = usize::try_from(self.max_frame_bytes - FRAME_OVERHEAD).unwrap_or(usize::MAX);
        for part in message.body.chunks(part) {
            self.write(CONTENT_BODY, CHANNEL, part);
        }
        Ok(())
    }

    /// Sends what was written. A broker with an alarm stops reading: waiting for it has an end. Cancel-safe: what was not sent is
    /// sent the next time.
    pub(super) async fn flush(&mut self) -> Result<(), AmqpError> {
        let flushing = async {
            while !self.output.is_empty() {
                self.stream.write_buf(&mut self.output).await?;
            }
            self.stream.flush().await
        };
        Ok(tokio::time::timeout(ANSWER_TIMEOUT, flushing).await.map_err(|_| AmqpError::Silence)??)
    }

    fn write(&mut self, kind: u8, channel: u16, payload: &[u8]) {
        self.output.put_u8(kind);
        self.output.put_u16(channel);
        self.output.put_u32(u32::try_from(payload.len()).unwrap_or(u32::MAX));
        self.output.put_slice(payload);
        self.output.put_u8(END);
    }
}

const NO_HEADER: &str = "a content header that is none";

/// A content header's parts: the size of the body, and the properties (AMQP 0-9-1, 4.2.6.1).
pub(super) fn content_header(header: &Bytes) -> Result<(usize, Bytes), AmqpError> {
    // Class and weight, then the size.
    let size = header.get(4..12).and_then(|size| size.try_into().ok()).map(u64::from_be_bytes);
    let size = size.and_then(|size| usize::try_from(size).ok());
    Ok((size.ok_or_else(|| AmqpError::Protocol(NO_HEADER.into()))?, header.slice(12..)))
}

/// Whether a frame is the start of a content's body, or a part of it.
pub(super) fn is_content_header(kind: u8) -> bool {
    kind == CONTENT_HEADER
}

/// A method, unless it is one that is heard everywhere: the broker's end of the channel or the connection, an alarm.
fn noticed(frame: Frame) -> Result<Option<Frame>, AmqpError> {
    let Frame::Method(_, method, _) = frame else { return Ok(Some(frame)) };
    match method {
        (10, 50) | (20, 40) => {
            let (code, text) = match frame.parse()? {
                AMQPClass::Connection(connection::AMQPMethod::Close(close)) => {
                    (close.reply_code, close.reply_text)
                }
                AMQPClass::Channel(channel::AMQPMethod::Close(close)) => (close.reply_code, close.reply_text),
                other => return Err(AmqpError::unexpected(&other)),
            };
            Err(AmqpError::Closed { code, text: text.as_str().to_owned() })
        }
        (10, 60) => match frame.parse()? {
            AMQPClass::Connection(connection::AMQPMethod::Blocked(blocked)) => {
                Err(AmqpError::Blocked(blocked.reason.as_str().to_owned()))
            }
            other => Err(AmqpError::unexpected(&other)),
        },
        (10, 61) => Ok(None), // connection.unblocked
        _ => Ok(Some(frame)),
    }
}
