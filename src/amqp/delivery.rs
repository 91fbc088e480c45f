//! A message that the broker delivered, as slices of what was read from its connection.

use bytes::Bytes;
use chrono::{DateTime, Utc};

use super::message::{RawMessage, check};
use super::properties::{Property, RawProperties};
use crate::event::{Reason, ReceivedMessage, Rejection, headers};
use crate::message;

/// A delivery. Nothing of it is copied, unless its body arrived in several frames.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Channel that it was delivered on.
    pub channel: u16,
    /// Delivery tag: counts from 1 on each channel.
    pub tag: u64,
    /// Set where it was delivered before, to any consumer.
    pub redelivered: bool,
    /// Key that it was published under.
    pub routing_key: Bytes,
    /// Properties, as they were sent.
    pub properties: Bytes,
    /// Body.
    pub body: Bytes,
    /// Size in bytes of what was too large to be kept: the body, or the frame of the properties. They are empty then.
    pub skipped_bytes: Option<usize>,
}

impl Delivery {
    /// Returns the message as the decoder takes it.
    ///
    /// # Errors
    /// A text or the headers cannot be read.
    pub fn received_message(&self, received_at: DateTime<Utc>) -> Result<ReceivedMessage<'_>, Rejection> {
        let Some(properties) = RawProperties::parse(&self.properties) else {
            return Err(Rejection::of(Reason::InvalidField, "properties", "cannot be read"));
        };
        check(&self.routing_key, &properties)?;
        Ok(ReceivedMessage {
            body: &self.body,
            // The check has found that it is UTF-8.
            routing_key: std::str::from_utf8(&self.routing_key).unwrap_or_default(),
            message_id: properties.utf8(Property::MessageId),
            event_type: properties.utf8(Property::Type),
            timestamp: properties.number(Property::Timestamp),
            received_at,
        })
    }

    /// Copies what it holds out of the buffer that it was read into: a delivery that waits for long must not keep the whole buffer.
    pub fn detach(&mut self) {
        for part in [&mut self.routing_key, &mut self.properties, &mut self.body] {
            *part = Bytes::copy_from_slice(part);
        }
    }

    /// Returns the trace that the message belongs to: its header, where that looks like a trace.
    #[must_use]
    pub fn traceparent(&self) -> Option<&str> {
        let text = RawProperties::parse(&self.properties)?.header(headers::TRACEPARENT)?;
        message::is_traceparent(text).then_some(text)
    }

    /// Returns whether it is a probe, which asks whether a queue takes messages and is dropped.
    #[must_use]
    pub fn is_probe(&self) -> bool {
        self.body.is_empty()
            && RawProperties::parse(&self.properties)
                .is_some_and(|properties| properties.utf8(Property::Type) == Some(headers::PROBE_TYPE))
    }

    /// Returns whether it comes from a stream.
    #[must_use]
    pub fn is_of_a_stream(&self) -> bool {
        RawProperties::parse(&self.properties).is_some_and(|properties| {
            properties.headers().any(|header| header.name == headers::STREAM_OFFSET.as_bytes())
        })
    }

    /// Returns the property `message_id`, with U+FFFD for what is not UTF-8.
    #[must_use]
    pub fn message_id(&self) -> Option<String> {
        let properties = RawProperties::parse(&self.properties)?;
        properties.text(Property::MessageId).map(std::borrow::Cow::into_owned)
    }

    /// Returns the size in bytes: body, properties and key.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.body.len() + self.properties.len() + self.routing_key.len()
    }

    /// Returns a copy that can be published.
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
