//! Frames in and out: a handshake, methods, and contents as their bytes are.

use std::time::Duration;

use lapin::protocol::{AMQPClass, basic, channel, connection, gen_class, parse_class};
use lapin::types::{AMQPValue, FieldTable, LongString};
use lapin::uri::SASLMechanism;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufStream};

use super::properties::{RawProperties, generated};
use super::{BASIC, CHANNEL, RawMessage};
use crate::broker::Broker;
use crate::broker::connect::Stream;

/// The protocol header of AMQP 0-9-1; the broker answers with `connection.start` and its properties.
const HEADER: &[u8] = b"AMQP\0\0\x09\x01";

/// Frame types and the byte that ends a frame (AMQP 0-9-1, 4.2.3).
const METHOD: u8 = 1;
const CONTENT_HEADER: u8 = 2;
const CONTENT_BODY: u8 = 3;
const HEARTBEAT: u8 = 8;
const END: u8 = 0xce;

/// Bytes of a frame around its payload.
const FRAME_OVERHEAD: u32 = 8;

/// The largest frame that this side agrees to send; it also stands for a broker that sets no limit (RabbitMQ's default).
const MAX_FRAME_BYTES: u32 = 131_072;

/// The smallest that a broker may ask for (AMQP 0-9-1, 4.2.3).
const MIN_FRAME_BYTES: u32 = 4096;

/// The largest that is read: RabbitMQ adds headers of its own to a message, beyond what was agreed.
const MAX_READ_BYTES: u32 = 4 * 1024 * 1024;

/// What a content header has beside the properties: class, weight and size, and the frame around it.
const CONTENT_HEADER_OVERHEAD: u32 = 12 + FRAME_OVERHEAD;

/// How long the broker may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// Why a connection of this kind failed.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The network.
    #[error(transparent)]
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

impl WireError {
    pub(super) fn unexpected(class: &AMQPClass) -> Self {
        WireError::Protocol(format!("unexpected {class:?}"))
    }
}

/// What this side understands: without it the broker says nothing of an alarm, a wrong password or a deleted queue.
fn capabilities() -> FieldTable {
    let mut capabilities = FieldTable::default();
    for capability in [
        "connection.blocked",
        "publisher_confirms",
        "basic.nack",
        "consumer_cancel_notify",
        "authentication_failure_close",
    ] {
        capabilities.insert(capability.into(), AMQPValue::Boolean(true));
    }
    let mut properties = FieldTable::default();
    properties.insert("product".into(), AMQPValue::LongString("cns-events".into()));
    properties.insert("capabilities".into(), AMQPValue::FieldTable(capabilities));
    properties
}

/// What comes in.
pub(super) enum Frame {
    /// A method: its channel, its class and number, its arguments.
    Method(u16, (u16, u16), Vec<u8>),
    /// A part of a content: its channel, its frame type (header or body), its payload.
    Content(u16, u8, Vec<u8>),
}

impl Frame {
    /// A method whose strings are the broker's own.
    pub(super) fn parse(self) -> Result<AMQPClass, WireError> {
        let Frame::Method(_, (class, method), arguments) = self else {
            return Err(WireError::Protocol("content where a method had to be".into()));
        };
        let payload = [&class.to_be_bytes()[..], &method.to_be_bytes(), &arguments].concat();
        match parse_class(payload.as_slice()) {
            Ok((_, class)) => Ok(class),
            Err(_) => Err(WireError::Protocol(format!("method {class}.{method}"))),
        }
    }
}

/// A stream of frames.
pub(super) struct Frames {
    stream: BufStream<Box<dyn Stream>>,
    max_frame_bytes: u32,
}

impl Frames {
    /// The first frame that the broker sends to anybody: who it is.
    pub(super) async fn greet(broker: &Broker) -> Result<(Self, Vec<u8>), WireError> {
        let stream = tokio::time::timeout(ANSWER_TIMEOUT, broker.stream()).await;
        let stream = BufStream::new(stream.map_err(|_| WireError::Silence)??);
        let mut frames = Frames { stream, max_frame_bytes: MAX_FRAME_BYTES };
        frames.stream.write_all(HEADER).await?;
        frames.flush().await?;
        match frames.next().await? {
            Frame::Method(.., arguments) => Ok((frames, arguments)),
            Frame::Content(..) => Err(WireError::Protocol("no greeting".into())),
        }
    }

    /// Logs in.
    pub(super) async fn open(broker: &Broker) -> Result<Self, WireError> {
        use connection::{AMQPMethod, Open, StartOk, TuneOk};
        let (mut frames, _) = Self::greet(broker).await?;
        let uri = broker.uri();
        let user = &uri.authority.userinfo;
        let mechanism = uri.query.auth_mechanism.unwrap_or_default();
        let response = match mechanism {
            SASLMechanism::Plain => LongString::from(format!("\0{}\0{}", user.username, user.password)),
            SASLMechanism::External | SASLMechanism::Anonymous => LongString::default(),
            other => return Err(WireError::Protocol(format!("auth_mechanism={other} is not spoken here"))),
        };
        let start = StartOk {
            client_properties: capabilities(),
            mechanism: mechanism.name().into(),
            response,
            locale: "en_US".into(),
        };
        frames.send(0, AMQPClass::Connection(AMQPMethod::StartOk(start))).await?;
        let AMQPClass::Connection(AMQPMethod::Tune(tune)) = frames.method().await? else {
            return Err(WireError::Protocol("no tuning".into()));
        };
        if (1..MIN_FRAME_BYTES).contains(&tune.frame_max) {
            return Err(WireError::Protocol(format!("frames of at most {} bytes", tune.frame_max)));
        }
        if (MIN_FRAME_BYTES..MAX_FRAME_BYTES).contains(&tune.frame_max) {
            frames.max_frame_bytes = tune.frame_max;
        }
        // No heartbeats: nothing here waits for longer than an answer may take.
        let tuned = TuneOk { channel_max: tune.channel_max, frame_max: frames.max_frame_bytes, heartbeat: 0 };
        frames.send(0, AMQPClass::Connection(AMQPMethod::TuneOk(tuned))).await?;
        let open = Open { virtual_host: uri.vhost.as_str().into() };
        frames.send(0, AMQPClass::Connection(AMQPMethod::Open(open))).await?;
        frames.method().await?;
        Ok(frames)
    }

    /// The next method; the broker's end of the channel or the connection is an error.
    pub(super) async fn method(&mut self) -> Result<AMQPClass, WireError> {
        self.next().await?.parse()
    }

    /// The next frame. Heartbeats and notices pass; the broker's end of the channel or the connection is an error.
    pub(super) async fn next(&mut self) -> Result<Frame, WireError> {
        loop {
            let frame = tokio::time::timeout(ANSWER_TIMEOUT, self.read()).await;
            let Some(frame) = frame.map_err(|_| WireError::Silence)?? else { continue };
            let Frame::Method(_, method, _) = frame else { return Ok(frame) };
            match method {
                (10, 50) | (20, 40) => {
                    let (code, text) = match frame.parse()? {
                        AMQPClass::Connection(connection::AMQPMethod::Close(close)) => {
                            (close.reply_code, close.reply_text)
                        }
                        AMQPClass::Channel(channel::AMQPMethod::Close(close)) => {
                            (close.reply_code, close.reply_text)
                        }
                        other => return Err(WireError::unexpected(&other)),
                    };
                    return Err(WireError::Closed { code, text: text.as_str().to_owned() });
                }
                (10, 60) => {
                    let AMQPClass::Connection(connection::AMQPMethod::Blocked(blocked)) = frame.parse()?
                    else {
                        continue;
                    };
                    return Err(WireError::Blocked(blocked.reason.as_str().to_owned()));
                }
                (10, 61) => {} // connection.unblocked
                _ => return Ok(frame),
            }
        }
    }

    /// Waits for anything to come, at most so long; whether something did. Nothing is taken.
    pub(super) async fn anything_within(&mut self, patience: Duration) -> Result<bool, WireError> {
        match tokio::time::timeout(patience, self.stream.fill_buf()).await {
            Ok(buffer) if buffer.as_ref().is_ok_and(|buffer| buffer.is_empty()) => {
                Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof).into())
            }
            Ok(buffer) => Ok(buffer.map(|_| true)?),
            Err(_) => Ok(false),
        }
    }

    /// What the properties of a message may take, in bytes, so that they fit a frame that was agreed.
    pub(super) fn max_properties_bytes(&self) -> usize {
        usize::try_from(self.max_frame_bytes - CONTENT_HEADER_OVERHEAD).unwrap_or(usize::MAX)
    }

    /// The content behind a method: properties and body.
    pub(super) async fn content(&mut self, channel: u16) -> Result<(RawProperties, Vec<u8>), WireError> {
        let malformed = || WireError::Protocol("a content header that is none".into());
        let header = self.part(channel, CONTENT_HEADER).await?;
        // Class and weight, the body's size, the properties.
        let (size, properties) = header.get(4..).and_then(<[u8]>::split_first_chunk).ok_or_else(malformed)?;
        let properties = RawProperties::parse(properties).ok_or_else(malformed)?;
        let size = usize::try_from(u64::from_be_bytes(*size)).map_err(|_| malformed())?;
        let mut body = Vec::new();
        while body.len() < size {
            body.extend_from_slice(&self.part(channel, CONTENT_BODY).await?);
        }
        Ok((properties, body))
    }

    /// RabbitMQ writes the frames of a message without others between them; anything else is not understood.
    async fn part(&mut self, channel: u16, kind: u8) -> Result<Vec<u8>, WireError> {
        match self.next().await? {
            Frame::Content(of, part, payload) if (of, part) == (channel, kind) => Ok(payload),
            Frame::Content(..) => Err(WireError::Protocol("a part of another message".into())),
            method => Err(WireError::unexpected(&method.parse()?)),
        }
    }

    /// Sends a method.
    pub(super) async fn send(&mut self, channel: u16, class: AMQPClass) -> Result<(), WireError> {
        self.write(METHOD, channel, &generated(gen_class(&class))).await?;
        self.flush().await
    }

    /// Writes a message, mandatory; [`Frames::flush`] sends it.
    pub(super) async fn publish(&mut self, exchange: &str, message: &RawMessage) -> Result<(), WireError> {
        let key_bytes = u8::try_from(message.routing_key.len())
            .map_err(|_| WireError::Protocol("a routing key of more than 255 bytes".into()))?;
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
        self.write(METHOD, CHANNEL, &method).await?;
        let mut header = Vec::new();
        header.extend_from_slice(&BASIC.to_be_bytes());
        header.extend_from_slice(&0_u16.to_be_bytes());
        header.extend_from_slice(&(message.body.len() as u64).to_be_bytes());
        header.extend_from_slice(&message.properties.to_bytes());
        self.write(CONTENT_HEADER, CHANNEL, &header).await?;
        let part = usize::try_from(self.max_frame_bytes - FRAME_OVERHEAD).unwrap_or(usize::MAX);
        for part in message.body.chunks(part) {
            self.write(CONTENT_BODY, CHANNEL, part).await?;
        }
        Ok(())
    }

    /// Sends what was written. A broker with an alarm stops reading: waiting for it has an end.
    pub(super) async fn flush(&mut self) -> Result<(), WireError> {
        let flushed = tokio::time::timeout(ANSWER_TIMEOUT, self.stream.flush()).await;
        Ok(flushed.map_err(|_| WireError::Silence)??)
    }

    async fn write(&mut self, kind: u8, channel: u16, payload: &[u8]) -> Result<(), WireError> {
        let writing = async {
            self.stream.write_u8(kind).await?;
            self.stream.write_u16(channel).await?;
            self.stream.write_u32(u32::try_from(payload.len()).unwrap_or(u32::MAX)).await?;
            self.stream.write_all(payload).await?;
            self.stream.write_u8(END).await
        };
        Ok(tokio::time::timeout(ANSWER_TIMEOUT, writing).await.map_err(|_| WireError::Silence)??)
    }

    async fn read(&mut self) -> Result<Option<Frame>, WireError> {
        let kind = self.stream.read_u8().await?;
        let channel = self.stream.read_u16().await?;
        let size = self.stream.read_u32().await?;
        if size > MAX_READ_BYTES {
            return Err(WireError::Protocol(format!("a frame of {size} bytes")));
        }
        let mut payload = vec![0; usize::try_from(size).unwrap_or_default()];
        self.stream.read_exact(&mut payload).await?;
        if self.stream.read_u8().await? != END {
            return Err(WireError::Protocol("a frame without its end".into()));
        }
        match kind {
            METHOD if payload.len() >= 4 => {
                let number = |at: usize| u16::from_be_bytes([payload[at], payload[at + 1]]);
                Ok(Some(Frame::Method(channel, (number(0), number(2)), payload[4..].to_vec())))
            }
            CONTENT_HEADER | CONTENT_BODY => Ok(Some(Frame::Content(channel, kind, payload))),
            HEARTBEAT => Ok(None),
            _ => Err(WireError::Protocol(format!("a frame of type {kind}"))),
        }
    }
}
