//! Sorts what the broker sends: contents are put together, methods are handed on, ends of the connection are errors. Pure.

use bytes::{Bytes, BytesMut};

use super::AmqpError;
use super::codec::{Frame, FrameType, content_header};
use super::delivery::Delivery;
use super::method::Response;

/// Message that came back: no queue took it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Returned {
    /// The broker's reason.
    pub(super) reason: String,
    /// Key that it was published under.
    pub(super) routing_key: Bytes,
    /// Body.
    pub(super) body: Bytes,
}

/// Contents that have arrived, and the one that is arriving. RabbitMQ sends the frames of a content without others between.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    partial: Option<Partial>,
    pub(super) deliveries: Vec<Delivery>,
    pub(super) returned: Vec<Returned>,
    /// Bytes of deliveries that may still be kept, where that is bounded. Deliveries over the budget are dropped here; the
    /// broker requeues them with all other unsettled messages.
    budget_bytes: Option<usize>,
}

/// Content whose frames are arriving.
#[derive(Debug)]
struct Partial {
    head: Head,
    /// Size of the whole body, once the content header has told it.
    size: Option<usize>,
    /// The body so far.
    body: Bytes,
    /// The body so far, where it arrives in several frames.
    parts: BytesMut,
    properties: Bytes,
}

/// Method that a content belongs to.
#[derive(Debug)]
enum Head {
    Deliver { channel: u16, tag: u64, redelivered: bool, routing_key: Bytes },
    Return { reason: String, routing_key: Bytes },
}

impl Inbox {
    /// Bounds the deliveries that are kept from here on.
    pub(super) fn limit(&mut self, budget_bytes: usize) {
        self.budget_bytes = Some(budget_bytes);
    }

    /// Drops everything: a tag of a channel that is closed would mean another message on its successor.
    pub(super) fn clear(&mut self) {
        *self = Inbox::default();
    }

    /// Takes in a frame; returns a method that is not part of a content, with its channel.
    ///
    /// # Errors
    /// The broker has closed the channel or the connection, ended the consumer or raised an alarm; or the frame is out of
    /// place.
    pub(super) fn accept(&mut self, frame: Frame) -> Result<Option<(u16, Response)>, AmqpError> {
        match frame.kind {
            FrameType::Method => self.method(frame.channel, Response::decode(&frame.payload)?),
            FrameType::Header | FrameType::Body => {
                let partial = self.partial.as_mut();
                let partial =
                    partial.ok_or_else(|| AmqpError::Protocol("content without a method".into()))?;
                partial.accept(frame)?;
                if partial.is_whole()
                    && let Some(partial) = self.partial.take()
                {
                    self.keep(partial);
                }
                Ok(None)
            }
            FrameType::Heartbeat => Ok(None),
        }
    }

    fn method(&mut self, channel: u16, response: Response) -> Result<Option<(u16, Response)>, AmqpError> {
        let head = match response {
            Response::Deliver { tag, redelivered, routing_key } => {
                Head::Deliver { channel, tag, redelivered, routing_key }
            }
            Response::Return { text, routing_key } => Head::Return { reason: text, routing_key },
            Response::Closed { code, text } => return Err(AmqpError::Closed { code, text }),
            Response::Cancelled => return Err(AmqpError::Cancelled),
            Response::Blocked { reason } => return Err(AmqpError::Blocked(reason)),
            Response::Unblocked => return Ok(None),
            other => return Ok(Some((channel, other))),
        };
        if self.partial.is_some() {
            return Err(AmqpError::Protocol("a content inside another".into()));
        }
        self.partial = Some(Partial {
            head,
            size: None,
            body: Bytes::new(),
            parts: BytesMut::new(),
            properties: Bytes::new(),
        });
        Ok(None)
    }

    fn keep(&mut self, partial: Partial) {
        let Partial { head, body, properties, .. } = partial;
        match head {
            Head::Deliver { channel, tag, redelivered, routing_key } => {
                let delivery = Delivery { channel, tag, redelivered, routing_key, properties, body };
                if fits(&mut self.budget_bytes, delivery.weight()) {
                    self.deliveries.push(delivery);
                }
            }
            Head::Return { reason, routing_key } => {
                self.returned.push(Returned { reason, routing_key, body });
            }
        }
    }
}

impl Partial {
    /// Takes the next frame of the content.
    fn accept(&mut self, frame: Frame) -> Result<(), AmqpError> {
        match (frame.kind, self.size) {
            (FrameType::Header, None) => {
                if let Some(bytes) = frame.skipped_bytes {
                    return Err(AmqpError::Protocol(format!("properties of {bytes} bytes")));
                }
                let (size, properties) = content_header(&frame.payload)?;
                (self.size, self.properties) = (Some(size), properties);
                Ok(())
            }
            (FrameType::Body, Some(size)) if self.parts.len() + frame.payload.len() <= size => {
                if frame.payload.len() == size {
                    self.body = frame.payload; // nothing is copied where the body is one frame
                } else {
                    self.parts.extend_from_slice(&frame.payload);
                    if self.parts.len() == size {
                        self.body = std::mem::take(&mut self.parts).freeze();
                    }
                }
                Ok(())
            }
            _ => Err(AmqpError::Protocol("a part of another message".into())),
        }
    }

    fn is_whole(&self) -> bool {
        self.size == Some(self.body.len())
    }
}

/// Returns whether something fits into what is left of a budget; nothing does after something that did not.
fn fits(budget_bytes: &mut Option<usize>, bytes: usize) -> bool {
    let Some(left) = budget_bytes else { return true };
    let rest = left.checked_sub(bytes.max(1));
    *left = rest.unwrap_or(0);
    rest.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: FrameType, payload: &[u8]) -> Frame {
        Frame { kind, channel: 3, payload: Bytes::copy_from_slice(payload), skipped_bytes: None }
    }

    /// basic.deliver: consumer tag `t`, delivery tag 7, redelivered, exchange `e`, routing key `cns.x`.
    fn deliver() -> Frame {
        frame(FrameType::Method, b"\0\x3c\0\x3c\x01t\0\0\0\0\0\0\0\x07\x01\x01e\x05cns.x")
    }

    fn header(size: u64) -> Frame {
        let mut payload = vec![0, 60, 0, 0];
        payload.extend_from_slice(&size.to_be_bytes());
        payload.extend_from_slice(b"\x10\x00\x02"); // delivery-mode 2
        frame(FrameType::Header, &payload)
    }

    fn body(part: &str) -> Frame {
        frame(FrameType::Body, part.as_bytes())
    }

    #[test]
    fn a_delivery_arrives_in_one_frame_or_in_several() {
        for parts in [&["hello"][..], &["he", "llo"], &["h", "ell", "o"]] {
            let mut inbox = Inbox::default();
            for frame in [deliver(), header(5)].into_iter().chain(parts.iter().map(|part| body(part))) {
                assert!(inbox.deliveries.is_empty());
                assert_eq!(inbox.accept(frame).unwrap(), None);
            }
            let delivery = inbox.deliveries.pop().unwrap();
            assert_eq!((delivery.channel, delivery.tag, delivery.redelivered), (3, 7, true));
            assert_eq!((&delivery.routing_key[..], &delivery.body[..]), (&b"cns.x"[..], &b"hello"[..]));
        }
        let mut inbox = Inbox::default();
        inbox.accept(deliver()).unwrap();
        inbox.accept(header(0)).unwrap();
        assert_eq!(inbox.deliveries.len(), 1, "an empty body has no frame");
    }

    #[test]
    fn a_frame_out_of_place_is_an_error() {
        assert!(Inbox::default().accept(body("x")).is_err(), "a body before its method");
        let after = |frames: &[Frame], last: Frame| {
            let mut inbox = Inbox::default();
            frames.iter().for_each(|frame| drop(inbox.accept(frame.clone()).unwrap()));
            inbox.accept(last)
        };
        assert!(after(&[deliver()], body("x")).is_err(), "a body before its header");
        assert!(after(&[deliver(), header(1)], body("xy")).is_err(), "more than was announced");
        assert!(after(&[deliver(), header(1)], header(1)).is_err(), "a second header");
        assert!(after(&[deliver(), header(1)], deliver()).is_err(), "a content inside another");
    }

    #[test]
    fn nothing_is_kept_behind_what_was_dropped() {
        assert!(fits(&mut None, usize::MAX));
        let mut budget = Some(10);
        assert!(fits(&mut budget, 4) && fits(&mut budget, 6) && !fits(&mut budget, 0));
        let mut budget = Some(10);
        assert!(!fits(&mut budget, 11));
        assert!(!fits(&mut budget, 1), "its place is behind one that the broker requeues");
        assert!(!fits(&mut Some(0), 0));
    }
}
