//! A message that the broker delivered, as slices of what was read from its connection.

use bytes::{Bytes, BytesMut};
use chrono::{DateTime, Utc};

use super::properties::{Property, RawProperties};
use super::transport::{AmqpError, content_header, is_content_header};
use super::{RawMessage, readable, short_string};
use crate::event::headers::TRACEPARENT;
use crate::event::{Reason, ReceivedMessage, Rejection};
use crate::message;

/// A delivery: nothing of it is copied, unless its body came in several frames.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// The delivery tag: counts from 1 on each channel.
    pub tag: u64,
    /// It was delivered before, to somebody.
    pub redelivered: bool,
    /// The key it was published under.
    pub routing_key: Bytes,
    /// Its properties, as they stand on the wire.
    pub properties: Bytes,
    /// Its body.
    pub body: Bytes,
}

impl Delivery {
    /// As the decoder wants it.
    ///
    /// # Errors
    /// A text or the headers cannot be read.
    pub fn incoming(&self, received_at: DateTime<Utc>) -> Result<ReceivedMessage<'_>, Rejection> {
        let Some(properties) = RawProperties::parse(&self.properties) else {
            return Err(Rejection::of(Reason::InvalidField, "properties", "cannot be read"));
        };
        readable(&self.routing_key, &properties)?;
        Ok(ReceivedMessage {
            body: &self.body,
            // That it is UTF-8 was looked at.
            routing_key: std::str::from_utf8(&self.routing_key).unwrap_or_default(),
            message_id: properties.utf8(Property::MessageId),
            event_type: properties.utf8(Property::Type),
            timestamp: properties.number(Property::Timestamp),
            received_at,
        })
    }

    /// The trace that the message belongs to, as its producer says: the header, where it looks like one.
    #[must_use]
    pub fn traceparent(&self) -> Option<&str> {
        let text = RawProperties::parse(&self.properties)?.header(TRACEPARENT)?;
        message::is_traceparent(text).then_some(text)
    }

    /// Whether it is a probe: it asks whether a queue takes messages, and is dropped.
    #[must_use]
    pub fn is_probe(&self) -> bool {
        self.body.is_empty()
            && RawProperties::parse(&self.properties)
                .is_some_and(|properties| properties.utf8(Property::Type) == Some(message::probe::TYPE))
    }

    /// The property `message_id`, with U+FFFD for what is not UTF-8.
    #[must_use]
    pub fn message_id(&self) -> Option<String> {
        let properties = RawProperties::parse(&self.properties)?;
        properties.text(Property::MessageId).map(std::borrow::Cow::into_owned)
    }

    /// Bytes that it holds: body, properties and key.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.body.len() + self.properties.len() + self.routing_key.len()
    }

    /// A copy that can be published.
    #[must_use]
    pub fn message(&self) -> RawMessage {
        RawMessage {
            routing_key: self.routing_key.to_vec(),
            properties: RawProperties::parse(&self.properties)
                .map(|properties| properties.to_owned())
                .unwrap_or_default(),
            body: self.body.to_vec(),
        }
    }
}

/// A delivery whose frames are still coming: `basic.deliver`, the content's header, its body in parts.
pub(super) struct Arriving {
    delivery: Delivery,
    /// The whole size of the body, once the header has said it.
    size: Option<usize>,
    /// The body so far, where it comes in several frames.
    parts: BytesMut,
}

impl Arriving {
    /// Begins with the arguments of `basic.deliver`. They are read by hand: a routing key need not be UTF-8.
    pub(super) fn begin(arguments: &Bytes) -> Result<Self, AmqpError> {
        let parts = || {
            let (_consumer, rest) = short_string(arguments)?;
            let (tag, rest) = rest.split_first_chunk::<8>()?;
            let (redelivered, rest) = rest.split_first()?;
            let (_exchange, rest) = short_string(rest)?;
            let (routing_key, _) = short_string(rest)?;
            Some(Delivery {
                tag: u64::from_be_bytes(*tag),
                redelivered: redelivered & 1 == 1,
                routing_key: arguments.slice_ref(routing_key),
                properties: Bytes::new(),
                body: Bytes::new(),
            })
        };
        let delivery = parts().ok_or_else(|| AmqpError::Protocol("a short delivery".into()))?;
        Ok(Arriving { delivery, size: None, parts: BytesMut::new() })
    }

    /// Takes the next frame of the content.
    pub(super) fn take(&mut self, kind: u8, payload: Bytes) -> Result<(), AmqpError> {
        match self.size {
            None if is_content_header(kind) => {
                let (size, properties) = content_header(&payload)?;
                self.delivery.properties = properties;
                self.size = Some(size);
            }
            Some(size) if !is_content_header(kind) && self.parts.len() + payload.len() <= size => {
                if payload.len() == size {
                    self.delivery.body = payload;
                } else {
                    self.parts.extend_from_slice(&payload);
                    if self.parts.len() == size {
                        self.delivery.body = std::mem::take(&mut self.parts).freeze();
                    }
                }
            }
            _ => return Err(AmqpError::Protocol("a part of another message".into())),
        }
        Ok(())
    }

    /// Whether all of it is there.
    pub(super) fn is_whole(&self) -> bool {
        self.size == Some(self.delivery.body.len())
    }

    pub(super) fn finish(self) -> Delivery {
        self.delivery
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Consumer tag `t`, delivery tag 7, redelivered, exchange `e`, routing key `cns.x`.
    const DELIVER: &[u8] = b"\x01t\0\0\0\0\0\0\0\x07\x01\x01e\x05cns.x";

    fn header(size: u64) -> Bytes {
        let mut header = vec![0, 60, 0, 0];
        header.extend_from_slice(&size.to_be_bytes());
        header.extend_from_slice(b"\x10\x00\x02"); // delivery-mode 2
        header.into()
    }

    #[test]
    fn a_delivery_comes_in_one_frame_or_in_several() {
        for parts in [&["hello"][..], &["he", "llo"], &["h", "ell", "o"]] {
            let mut arriving = Arriving::begin(&Bytes::from_static(DELIVER)).unwrap();
            arriving.take(2, header(5)).unwrap();
            for part in parts {
                assert!(!arriving.is_whole());
                arriving.take(3, Bytes::from_static(part.as_bytes())).unwrap();
            }
            assert!(arriving.is_whole());
            let delivery = arriving.finish();
            assert_eq!((delivery.tag, delivery.redelivered), (7, true));
            assert_eq!((&delivery.routing_key[..], &delivery.body[..]), (&b"cns.x"[..], &b"hello"[..]));
        }
        let mut empty = Arriving::begin(&Bytes::from_static(DELIVER)).unwrap();
        empty.take(2, header(0)).unwrap();
        assert!(empty.is_whole());
    }

    #[test]
    fn what_is_no_part_of_it_is_refused() {
        assert!(Arriving::begin(&Bytes::from_static(&DELIVER[..12])).is_err());
        let mut arriving = Arriving::begin(&Bytes::from_static(DELIVER)).unwrap();
        assert!(arriving.take(3, Bytes::from_static(b"x")).is_err(), "a body before its header");
        arriving.take(2, header(1)).unwrap();
        assert!(arriving.take(3, Bytes::from_static(b"xy")).is_err(), "more than was said");
        assert!(arriving.take(2, header(1)).is_err(), "a second header");
    }
}
