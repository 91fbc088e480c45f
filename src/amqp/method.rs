//! The methods that are spoken (AMQP 0-9-1, with RabbitMQ's extensions): what this side writes, what the broker sends. Pure.
//!
//! Texts that a producer chose (routing keys, a return's key) stay bytes: the broker does not check that they are UTF-8.

use bytes::{BufMut, Bytes, BytesMut};

use super::AmqpError;
use super::table::{self, Table, Value};

/// Reply code of an orderly close.
const REPLY_SUCCESS: u16 = 200;

/// Class and method of each method.
mod id {
    pub(super) const START: (u16, u16) = (10, 10);
    pub(super) const START_OK: (u16, u16) = (10, 11);
    pub(super) const TUNE: (u16, u16) = (10, 30);
    pub(super) const TUNE_OK: (u16, u16) = (10, 31);
    pub(super) const OPEN: (u16, u16) = (10, 40);
    pub(super) const OPEN_OK: (u16, u16) = (10, 41);
    pub(super) const CLOSE: (u16, u16) = (10, 50);
    pub(super) const CLOSE_OK: (u16, u16) = (10, 51);
    pub(super) const BLOCKED: (u16, u16) = (10, 60);
    pub(super) const UNBLOCKED: (u16, u16) = (10, 61);
    pub(super) const CHANNEL_OPEN: (u16, u16) = (20, 10);
    pub(super) const CHANNEL_OPEN_OK: (u16, u16) = (20, 11);
    pub(super) const CHANNEL_CLOSE: (u16, u16) = (20, 40);
    pub(super) const CHANNEL_CLOSE_OK: (u16, u16) = (20, 41);
    pub(super) const QOS: (u16, u16) = (60, 10);
    pub(super) const QOS_OK: (u16, u16) = (60, 11);
    pub(super) const CONSUME: (u16, u16) = (60, 20);
    pub(super) const CONSUME_OK: (u16, u16) = (60, 21);
    pub(super) const CANCEL: (u16, u16) = (60, 30);
    pub(super) const CANCEL_OK: (u16, u16) = (60, 31);
    pub(super) const PUBLISH: (u16, u16) = (60, 40);
    pub(super) const RETURN: (u16, u16) = (60, 50);
    pub(super) const DELIVER: (u16, u16) = (60, 60);
    pub(super) const ACK: (u16, u16) = (60, 80);
    pub(super) const REJECT: (u16, u16) = (60, 90);
    pub(super) const NACK: (u16, u16) = (60, 120);
    pub(super) const SELECT: (u16, u16) = (85, 10);
    pub(super) const SELECT_OK: (u16, u16) = (85, 11);
}

/// Class of messages; a content header begins with it.
pub(super) const BASIC_CLASS: u16 = id::PUBLISH.0;

/// Method that this side sends.
#[derive(Clone, Debug)]
pub(super) enum Request<'a> {
    /// Answers the broker's greeting with a login.
    StartOk { properties: &'a Table, mechanism: &'a str, response: &'a [u8] },
    /// Agrees to limits.
    TuneOk { channel_max: u16, frame_max: u32, heartbeat_seconds: u16 },
    /// Enters a virtual host.
    Open { vhost: &'a str },
    /// Closes the connection in order.
    Close,
    /// Opens a channel.
    ChannelOpen,
    /// Closes a channel in order.
    ChannelClose,
    /// Bounds the deliveries that are ahead on the channel.
    Qos { prefetch: u16 },
    /// Consumes from a queue.
    Consume { queue: &'a str, tag: &'a str },
    /// Ends a consumer.
    Cancel { tag: &'a str },
    /// Publishes the content that follows, mandatory: it comes back where no queue takes it.
    Publish { exchange: &'a str, routing_key: &'a [u8] },
    /// Acknowledges a delivery; with `multiple` also every one before it.
    Ack { tag: u64, multiple: bool },
    /// Requeues every delivery of the channel that is not settled.
    NackAll,
    /// Refuses a delivery: it is requeued, or the broker dead-letters it.
    Reject { tag: u64, requeue: bool },
    /// Asks for confirms.
    Select,
}

impl Request<'_> {
    /// Writes the payload of the method's frame.
    // Length: one arm for each method, in the order of the specification.
    pub(super) fn encode(&self) -> Result<BytesMut, AmqpError> {
        let mut out = BytesMut::with_capacity(64);
        match *self {
            Request::StartOk { properties, mechanism, response } => {
                begin(&mut out, id::START_OK);
                out.put_slice(&properties.to_bytes());
                short(&mut out, mechanism.as_bytes())?;
                long(&mut out, response);
                short(&mut out, b"en_US")?;
            }
            Request::TuneOk { channel_max, frame_max, heartbeat_seconds } => {
                begin(&mut out, id::TUNE_OK);
                out.put_u16(channel_max);
                out.put_u32(frame_max);
                out.put_u16(heartbeat_seconds);
            }
            Request::Open { vhost } => {
                begin(&mut out, id::OPEN);
                short(&mut out, vhost.as_bytes())?;
                out.put_slice(&[0, 0]); // reserved: an empty short string and a bit
            }
            Request::Close => close(&mut out, id::CLOSE)?,
            Request::ChannelClose => close(&mut out, id::CHANNEL_CLOSE)?,
            Request::ChannelOpen => {
                begin(&mut out, id::CHANNEL_OPEN);
                out.put_u8(0); // reserved
            }
            Request::Qos { prefetch } => {
                begin(&mut out, id::QOS);
                out.put_u32(0); // no bound in bytes: RabbitMQ has none
                out.put_u16(prefetch);
                out.put_u8(0); // for each consumer, not for the channel
            }
            Request::Consume { queue, tag } => {
                begin(&mut out, id::CONSUME);
                out.put_u16(0); // reserved
                short(&mut out, queue.as_bytes())?;
                short(&mut out, tag.as_bytes())?;
                out.put_u8(0); // with acks, not exclusive, with an answer
                out.put_slice(&Table::default().to_bytes());
            }
            Request::Cancel { tag } => {
                begin(&mut out, id::CANCEL);
                short(&mut out, tag.as_bytes())?;
                out.put_u8(0); // with an answer
            }
            Request::Publish { exchange, routing_key } => {
                begin(&mut out, id::PUBLISH);
                out.put_u16(0); // reserved
                short(&mut out, exchange.as_bytes())?;
                short(&mut out, routing_key)?;
                out.put_u8(1); // mandatory
            }
            Request::Ack { tag, multiple } => {
                begin(&mut out, id::ACK);
                out.put_u64(tag);
                out.put_u8(multiple.into());
            }
            Request::NackAll => {
                begin(&mut out, id::NACK);
                out.put_u64(0); // with multiple: everything on this channel
                out.put_u8(0b11); // multiple, requeue
            }
            Request::Reject { tag, requeue } => {
                begin(&mut out, id::REJECT);
                out.put_u64(tag);
                out.put_u8(requeue.into());
            }
            Request::Select => {
                begin(&mut out, id::SELECT);
                out.put_u8(0); // with an answer
            }
        }
        Ok(out)
    }
}

fn begin(out: &mut BytesMut, (class, method): (u16, u16)) {
    out.put_u16(class);
    out.put_u16(method);
}

fn close(out: &mut BytesMut, method: (u16, u16)) -> Result<(), AmqpError> {
    begin(out, method);
    out.put_u16(REPLY_SUCCESS);
    short(out, b"done")?;
    out.put_u32(0); // no method is at fault
    Ok(())
}

fn short(out: &mut BytesMut, text: &[u8]) -> Result<(), AmqpError> {
    let length = u8::try_from(text.len())
        .map_err(|_| AmqpError::Protocol("a name or routing key of more than 255 bytes".into()))?;
    out.put_u8(length);
    out.put_slice(text);
    Ok(())
}

fn long(out: &mut BytesMut, bytes: &[u8]) {
    out.put_u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    out.put_slice(bytes);
}

/// Method that the broker sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Response {
    /// Greets, and tells its version where it does.
    Start { version: Option<String> },
    /// Proposes limits.
    Tune { channel_max: u16, frame_max: u32, heartbeat_seconds: u16 },
    /// Has entered the virtual host.
    OpenOk,
    /// Ends the connection, or this channel.
    Closed { code: u16, text: String },
    /// Has closed the connection as it was asked to.
    CloseOk,
    /// Reads nothing more of this connection: an alarm.
    Blocked { reason: String },
    /// Reads again.
    Unblocked,
    /// Has opened a channel.
    ChannelOpenOk,
    /// Has closed a channel as it was asked to.
    ChannelCloseOk,
    /// Has bounded the deliveries that are ahead.
    QosOk,
    /// Delivers from now on.
    ConsumeOk,
    /// Has ended the consumer by itself: the queue is gone, or its node.
    Cancelled,
    /// Has ended the consumer as it was asked to.
    CancelOk,
    /// Delivers the content that follows.
    Deliver { tag: u64, redelivered: bool, routing_key: Bytes },
    /// Returns the content that follows: no queue took it.
    Return { text: String, routing_key: Bytes },
    /// Confirms what was published.
    Ack { tag: u64, multiple: bool },
    /// Refuses what was published.
    Nack { tag: u64, multiple: bool },
    /// Confirms from now on.
    SelectOk,
}

impl Response {
    /// Returns the error for a method that has no place where it arrived; an alarm is an error of its own.
    pub(super) fn unexpected(&self) -> AmqpError {
        match self {
            Response::Blocked { reason } => AmqpError::Blocked(reason.clone()),
            other => AmqpError::Protocol(format!("{other:?}")),
        }
    }

    /// Reads the payload of a method's frame.
    pub(super) fn decode(payload: &Bytes) -> Result<Self, AmqpError> {
        let Some((&[c0, c1, m0, m1], rest)) = payload.split_first_chunk::<4>() else {
            return Err(AmqpError::Protocol("a method that is too short".into()));
        };
        let method = (u16::from_be_bytes([c0, c1]), u16::from_be_bytes([m0, m1]));
        Self::arguments(method, payload, Reader(rest))
            .ok_or_else(|| AmqpError::Protocol(format!("method {}.{} cannot be read", method.0, method.1)))
    }

    /// Reads the arguments; `None` where they end early, or the method is one that the broker has no reason to send.
    fn arguments(method: (u16, u16), payload: &Bytes, mut arguments: Reader<'_>) -> Option<Self> {
        Some(match method {
            id::START => {
                arguments.take(2)?; // the protocol's version
                let version = table::entries(arguments.long()?).find(|entry| entry.name == b"version");
                let version =
                    version.and_then(|entry| Value::text(entry.value).map(|text| text.into_owned()));
                Response::Start { version }
            }
            id::TUNE => Response::Tune {
                channel_max: arguments.u16()?,
                frame_max: arguments.u32()?,
                heartbeat_seconds: arguments.u16()?,
            },
            id::OPEN_OK => Response::OpenOk,
            id::CLOSE | id::CHANNEL_CLOSE => {
                Response::Closed { code: arguments.u16()?, text: arguments.short_text()? }
            }
            id::CLOSE_OK => Response::CloseOk,
            id::BLOCKED => Response::Blocked { reason: arguments.short_text()? },
            id::UNBLOCKED => Response::Unblocked,
            id::CHANNEL_OPEN_OK => Response::ChannelOpenOk,
            id::CHANNEL_CLOSE_OK => Response::ChannelCloseOk,
            id::QOS_OK => Response::QosOk,
            id::CONSUME_OK => Response::ConsumeOk,
            id::CANCEL => Response::Cancelled,
            id::CANCEL_OK => Response::CancelOk,
            id::DELIVER => {
                arguments.short()?; // the consumer's tag
                let (tag, redelivered) = (arguments.u64()?, arguments.bit()?);
                arguments.short()?; // the exchange
                Response::Deliver { tag, redelivered, routing_key: payload.slice_ref(arguments.short()?) }
            }
            id::RETURN => {
                arguments.u16()?; // the reply code
                let text = arguments.short_text()?;
                arguments.short()?; // the exchange
                Response::Return { text, routing_key: payload.slice_ref(arguments.short()?) }
            }
            id::ACK => Response::Ack { tag: arguments.u64()?, multiple: arguments.bit()? },
            id::NACK => Response::Nack { tag: arguments.u64()?, multiple: arguments.bit()? },
            id::SELECT_OK => Response::SelectOk,
            _ => return None,
        })
    }
}

/// Arguments that are still to be read.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    fn u32(&mut self) -> Option<u32> {
        Some(u32::from_be_bytes(self.take(4)?.try_into().ok()?))
    }

    fn u64(&mut self) -> Option<u64> {
        Some(u64::from_be_bytes(self.take(8)?.try_into().ok()?))
    }

    fn bit(&mut self) -> Option<bool> {
        Some(self.take(1)?.first()? & 1 == 1)
    }

    fn short(&mut self) -> Option<&'a [u8]> {
        let length = usize::from(*self.take(1)?.first()?);
        self.take(length)
    }

    fn long(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.u32()?).ok()?;
        self.take(length)
    }

    fn short_text(&mut self) -> Option<String> {
        Some(String::from_utf8_lossy(self.short()?).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn decode(method: (u16, u16), arguments: &[u8]) -> Result<Response, AmqpError> {
        let mut payload = BytesMut::new();
        begin(&mut payload, method);
        payload.put_slice(arguments);
        Response::decode(&payload.freeze())
    }

    #[test]
    fn a_delivery_keeps_its_key_as_bytes() {
        let delivered = decode(id::DELIVER, b"\x01t\0\0\0\0\0\0\0\x07\x01\x01e\x05cns.\xff").unwrap();
        let routing_key = Bytes::from_static(b"cns.\xff");
        assert_eq!(delivered, Response::Deliver { tag: 7, redelivered: true, routing_key });
        assert!(decode(id::DELIVER, b"\x01t\0\0\0").is_err());
    }

    #[test]
    fn the_greeting_tells_the_version() {
        let mut properties = Table::default();
        properties.text("product", b"RabbitMQ");
        properties.text("version", b"3.10.8");
        let arguments = [b"\0\x09".as_slice(), &properties.to_bytes()].concat();
        let greeting = decode(id::START, &arguments).unwrap();
        assert_eq!(greeting, Response::Start { version: Some("3.10.8".into()) });
        let silent = [b"\0\x09".as_slice(), &Table::default().to_bytes()].concat();
        assert_eq!(decode(id::START, &silent).unwrap(), Response::Start { version: None });
    }

    #[test]
    fn a_close_has_the_brokers_reason() {
        let closed = decode(id::CHANNEL_CLOSE, b"\x01\x96\x03why\0\0\0\0").unwrap();
        assert_eq!(closed, Response::Closed { code: 406, text: "why".into() });
        assert!(decode((90, 10), b"").is_err(), "transactions are not spoken");
    }

    #[test]
    fn what_is_written_is_what_the_specification_says() {
        let bytes = |request: Request<'_>| request.encode().unwrap().to_vec();
        assert_eq!(bytes(Request::NackAll), b"\0\x3c\0\x78\0\0\0\0\0\0\0\0\x03");
        assert_eq!(bytes(Request::Ack { tag: 7, multiple: true }), b"\0\x3c\0\x50\0\0\0\0\0\0\0\x07\x01");
        assert_eq!(bytes(Request::Reject { tag: 7, requeue: false }), b"\0\x3c\0\x5a\0\0\0\0\0\0\0\x07\0");
        assert_eq!(bytes(Request::Qos { prefetch: 3 }), b"\0\x3c\0\x0a\0\0\0\0\0\x03\0");
        let publish = Request::Publish { exchange: "e", routing_key: b"\xff" };
        assert_eq!(bytes(publish), b"\0\x3c\0\x28\0\0\x01e\x01\xff\x01");
        assert!(Request::Open { vhost: &"x".repeat(256) }.encode().is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_method_or_an_error(bytes: Vec<u8>) {
            let _ = Response::decode(&Bytes::from(bytes));
        }

        #[test]
        fn any_arguments_are_read_or_an_error(class in 10_u16..90, method in 10_u16..125, arguments: Vec<u8>) {
            let _ = decode((class, method), &arguments);
        }
    }
}
