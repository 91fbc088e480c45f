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
    /// Bytes of deliveries that may still be kept, where that is bounded.
    budget_bytes: Option<usize>,
    /// Tags of deliveries over the budget, which were dropped here and have to be requeued.
    pub(super) over_budget: Vec<u64>,
    /// Size of the largest body that is kept; a larger one is skipped as it arrives.
    max_body_bytes: Option<usize>,
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
    /// Bytes of the body that have arrived.
    received_bytes: usize,
    /// Size of the body or of the header's frame, where either is too large to be kept.
    skipped_bytes: Option<usize>,
    properties: Bytes,
}

/// Method that a content belongs to.
#[derive(Debug)]
enum Head {
    Deliver { channel: u16, tag: u64, redelivered: bool, routing_key: Bytes },
    Return { reason: String, routing_key: Bytes },
}

impl Inbox {
    /// Returns an inbox that skips bodies over this size.
    pub(super) fn skipping_over(max_body_bytes: usize) -> Self {
        Inbox { max_body_bytes: Some(max_body_bytes), ..Inbox::default() }
    }

    /// Bounds the deliveries that are kept from here on.
    pub(super) fn limit(&mut self, budget_bytes: usize) {
        self.budget_bytes = Some(budget_bytes);
    }

    /// Drops everything: a tag of a channel that is closed would mean another message on its successor.
    pub(super) fn clear(&mut self) {
        *self = Inbox { max_body_bytes: self.max_body_bytes, ..Inbox::default() };
    }

    /// Takes in a frame; returns a method that is not part of a content, with its channel.
    ///
    /// # Errors
    /// The broker has closed the channel or the connection, or ended the consumer; or the frame is out of place.
    pub(super) fn accept(&mut self, frame: Frame) -> Result<Option<(u16, Response)>, AmqpError> {
        match frame.kind {
            FrameType::Method => self.method(frame.channel, Response::decode(&frame.payload)?),
            FrameType::Header | FrameType::Body => {
                let partial = self.partial.as_mut();
                let partial =
                    partial.ok_or_else(|| AmqpError::Protocol("content without a method".into()))?;
                partial.accept(frame, self.max_body_bytes)?;
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
            received_bytes: 0,
            skipped_bytes: None,
            properties: Bytes::new(),
        });
        Ok(None)
    }

    fn keep(&mut self, partial: Partial) {
        let Partial { head, body, properties, skipped_bytes, .. } = partial;
        match head {
            Head::Deliver { channel, tag, redelivered, routing_key } => {
                let delivery =
                    Delivery { channel, tag, redelivered, routing_key, properties, body, skipped_bytes };
                if fits(&mut self.budget_bytes, delivery.weight()) {
                    self.deliveries.push(delivery);
                } else {
                    self.over_budget.push(tag);
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
    fn accept(&mut self, frame: Frame, max_body_bytes: Option<usize>) -> Result<(), AmqpError> {
        match (frame.kind, self.size) {
            (FrameType::Header, None) => {
                let (size, properties) = content_header(&frame.payload)?;
                (self.size, self.properties) = (Some(size), properties);
                let too_large = max_body_bytes.is_some_and(|max| size > max).then_some(size);
                self.skipped_bytes = frame.skipped_bytes.or(too_large);
                Ok(())
            }
            (FrameType::Body, Some(size)) if self.received_bytes + frame.payload.len() <= size => {
                self.received_bytes += frame.payload.len();
                if self.skipped_bytes.is_some() {
                    return Ok(());
                }
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
        self.size == Some(self.received_bytes)
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
