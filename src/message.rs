//! Events as AMQP messages: the body, and the values that go into the properties.

use std::borrow::Cow;

use serde::Serialize;

use crate::event::{Event, Reason, ReceivedMessage, Rejection, Rules, decode};

/// Value of `delivery_mode` for a message that the broker writes to disk (AMQP 0-9-1).
pub(crate) const PERSISTENT: u8 = 2;

/// Most bytes of a routing key: a short string of AMQP 0-9-1.
pub(crate) const MAX_KEY_BYTES: usize = 255;

/// Prefix of every routing key: the worker's queue is bound to `cns.#`.
const KEY_PREFIX: &str = "cns.";

/// Bytes that four allocations and a place in a queue take beyond the requested sizes, measured with glibc.
const ALLOCATIONS_BYTES: usize = 160;

/// Returns whether a text has the form of a `traceparent` (W3C Trace Context, 3.2: `00-{trace}-{span}-{flags}` in hexadecimal).
pub(crate) fn is_traceparent(text: &str) -> bool {
    let mut parts = text.splitn(4, '-');
    [2, 32, 16, 2].iter().all(|length| {
        parts
            .next()
            .is_some_and(|part| part.len() == *length && part.bytes().all(|byte| byte.is_ascii_hexdigit()))
    })
}

/// Event in the form in which it is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedEvent {
    /// Body: one UTF-8 JSON object.
    pub body: Vec<u8>,
    /// Routing key.
    pub routing_key: Cow<'static, str>,
    /// Deduplication key, the property `message_id`.
    pub event_id: String,
    /// Property `type`.
    pub event_type: Cow<'static, str>,
    /// Property `priority`, 0-9.
    pub priority: u8,
    /// Property `timestamp` in seconds since 1970.
    pub timestamp: i64,
    /// Header `traceparent` (W3C Trace Context), if the event belongs to a trace.
    pub traceparent: Option<String>,
}

/// Encoded event, and the description of a payload that does not match the schema of its type.
pub type Written = (EncodedEvent, Option<String>);

impl EncodedEvent {
    /// Encodes an event and decodes it as the worker will, so that the worker can store every event that passes.
    ///
    /// `typed` means that state and payload have the types of their schemas: a plain event of this kind is not decoded.
    ///
    /// # Errors
    /// The reason for which the worker would dead-letter it.
    pub fn write<P: Serialize>(
        event: Event<'_, P>,
        traceparent: Option<String>,
        typed: bool,
        rules: &Rules,
    ) -> Result<Written, Rejection> {
        let key = event.routing_key.as_ref();
        if !key.starts_with(KEY_PREFIX) || key.len() > MAX_KEY_BYTES {
            let detail = format_args!("begins with `cns.` and has at most {MAX_KEY_BYTES} bytes");
            return Err(Rejection::of(Reason::InvalidField, "routing_key", detail));
        }
        // The serializer's error text may quote the value, so it is left out.
        let body = event
            .to_json()
            .map_err(|_| Rejection::of(Reason::InvalidField, "payload", "cannot be written as JSON"))?;
        let incoming = ReceivedMessage {
            body: &body,
            routing_key: key,
            message_id: None,
            event_type: None,
            timestamp: None,
            received_at: event.created_at,
        };
        let violation = if typed && event.is_plain(&body, rules) {
            None
        } else {
            decode(&incoming, rules)?.schema_violation
        };
        let priority = event.priority();
        let event_type = match event.known_type() {
            Some(kind) => Cow::Borrowed(kind.name()),
            None => Cow::Owned(event.event_type.into_owned()),
        };
        let outgoing = EncodedEvent {
            body,
            routing_key: Cow::Owned(event.routing_key.into_owned()),
            event_id: event.event_id.into_owned(),
            event_type,
            priority,
            timestamp: event.created_at.timestamp(),
            // A caller may pass on a header that its own caller sent, in any form.
            traceparent: traceparent.filter(|text| is_traceparent(text)),
        };
        Ok((outgoing, violation))
    }

    /// Returns the memory that it takes in bytes, with the allocator's overhead; rather a little too much than too little.
    #[must_use]
    pub fn size(&self) -> usize {
        let beside = self.routing_key.len() + self.event_id.len() + self.event_type.len();
        let traceparent = self.traceparent.as_ref().map_or(0, String::len);
        self.body.capacity() + beside + traceparent + size_of::<Self>() + ALLOCATIONS_BYTES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{PayloadPolicy, Workflow, empty_object, payload::CacheHit};

    const RULES: Rules = Rules { max_message_bytes: 1024, payload: PayloadPolicy::Warn };

    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn the_form_of_a_traceparent_is_checked() {
        assert!(is_traceparent(TRACE) && !is_traceparent(&format!("{TRACE}-and more")));
    }

    fn written(change: impl FnOnce(&mut Event<'_, CacheHit<'_>>)) -> Result<Written, Rejection> {
        let workflow = Workflow::new(uuid::Uuid::nil(), "org", "w");
        let mut event =
            workflow.event(CacheHit { cache: "parts".into(), key: "LM358".into() }, empty_object());
        change(&mut event);
        EncodedEvent::write(event, Some(TRACE.into()), true, &RULES)
    }

    proptest::proptest! {
        /// An event that is not decoded again is one that would pass.
        #[test]
        fn plain_events_pass_without_decoding(
            id in ".{0,300}", kind in ".{0,120}", organization in ".{0,3}", workflow in ".{0,300}", key in ".{0,400}",
            seconds in -70_000_000_000_i64..300_000_000_000,
        ) {
            let mut workflow = Workflow::new(uuid::Uuid::nil(), organization, workflow);
            workflow.tenant_id = uuid::Uuid::nil();
            let payload = CacheHit { cache: "parts".into(), key: key.into() };
            let mut event = workflow.event_of_type(kind.into(), "cns.x".into(), payload, empty_object());
            event.event_id = id.into();
            event.created_at = chrono::DateTime::from_timestamp(seconds, 0).unwrap();
            let read = EncodedEvent::write(event.clone(), None, false, &RULES).map(|_| ());
            proptest::prop_assert_eq!(EncodedEvent::write(event, None, true, &RULES).map(|_| ()), read);
        }
    }

    #[test]
    fn events_that_the_worker_would_dead_letter_are_refused() {
        let refused =
            |change: fn(&mut Event<'_, CacheHit<'_>>)| written(change).map(|_| ()).unwrap_err().to_string();
        assert!(refused(|event| event.routing_key = "other.key".into()).contains("routing_key begins with"));
        assert!(
            refused(|event| event.routing_key = format!("cns.{}", "x".repeat(252)).into()).contains("255")
        );
        assert!(refused(|event| event.event_id = "x".repeat(256).into()).contains("256 characters"));
        assert!(refused(|event| event.payload.key = "\0".into()).contains("unstorable"));
        assert!(refused(|event| event.payload.key = "x".repeat(2000).into()).contains("too_large"));
    }
}
