//! One event with its optional values, before it is logged.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use uuid::Uuid;

use super::handle::Publisher;
use super::outcome::LogError;
use crate::event::payload::{
    ApiCallMade, ComponentMatched, Confidence, EnrichmentProgress, ErrorRaised, Milliseconds, Object,
    ProcessingStarted, RiskAlert, Severity, StageCompleted,
};
use crate::event::{Event, EventType, Payload, Reason, Rejection};
use crate::message::EncodedEvent;
use crate::trace;

/// An event that is logged when this value is dropped, at the end of the statement that created it.
///
/// Optional values are added before that: `workflow.log_error("timed out").code("E42");`
#[derive(Debug)]
pub struct Entry<'w, P: Serialize> {
    publisher: &'w Publisher,
    /// `None` after it was logged.
    event: Option<Event<'w, P>>,
    traceparent: Option<String>,
    /// Problem with a value that was set.
    refused: Option<Rejection>,
    /// Set where the payload is known to match the schema of its type: the compiler checks everything but numbers.
    typed: bool,
}

impl<'w, P: Serialize> Entry<'w, P> {
    pub(super) fn new(publisher: &'w Publisher, event: Event<'w, P>) -> Self {
        let traceparent = trace::traceparent();
        Entry { publisher, event: Some(event), traceparent, refused: None, typed: true }
    }

    /// Records that the payload may not match the schema of its type.
    pub(super) fn unsure(mut self) -> Self {
        self.typed = false;
        self
    }

    /// Records a value that cannot be used.
    pub(super) fn refuse(mut self, rejection: Rejection) -> Self {
        self.refused.get_or_insert(rejection);
        self
    }

    /// Records a number, `valid` by its type. A number that JSON cannot express is refused.
    pub(super) fn number(self, field: &'static str, value: f64, valid: bool) -> Self {
        match (valid, value.is_finite()) {
            (true, _) => self,
            (false, true) => self.unsure(),
            (false, false) => {
                self.refuse(Rejection::of(Reason::InvalidField, field, "is not a finite number"))
            }
        }
    }

    fn with(mut self, set: impl FnOnce(&mut Event<'w, P>)) -> Self {
        if let Some(event) = &mut self.event {
            set(event);
        }
        self
    }

    /// Sets the deduplication key, 1-255 characters: events with the same key are stored once.
    pub fn event_id(self, event_id: impl Into<Cow<'w, str>>) -> Self {
        self.with(|event| event.event_id = event_id.into())
    }

    /// Sets the user who acted.
    pub fn user(self, user_id: Uuid) -> Self {
        self.with(|event| event.user_id = Some(user_id))
    }

    /// Sets the time of the event (default now).
    pub fn created_at(self, created_at: DateTime<Utc>) -> Self {
        self.with(|event| event.created_at = created_at)
    }

    /// Sets the workflow's state at this event, instead of the [current state](super::WorkflowPublisher::set_state).
    pub fn state(self, state: &impl Serialize) -> Self {
        match object("state", state) {
            Ok(state) => self.with(|event| event.state = Cow::Owned(state)),
            Err(rejection) => self.refuse(rejection),
        }
    }

    /// Sets the routing key, which must begin with `cns.` (default that of the type).
    pub fn routing_key(self, routing_key: impl Into<Cow<'w, str>>) -> Self {
        self.with(|event| event.routing_key = routing_key.into())
    }

    /// Sets the trace that the event belongs to (W3C Trace Context; default that of the active span, with the feature
    /// `opentelemetry`).
    pub fn traceparent(mut self, traceparent: impl Into<String>) -> Self {
        self.traceparent = Some(traceparent.into());
        self
    }

    /// Logs the event now, and waits for room in the buffer until the deadline, not for the broker's confirm. Needs a tokio runtime.
    /// If the future is dropped before it is done, the event is dropped and counted.
    ///
    /// # Errors
    /// The event was not accepted.
    pub fn wait(mut self, deadline: Instant) -> impl Future<Output = Result<(), LogError>> + use<'w, P> {
        let publisher = self.publisher;
        let written = self.take().map(|written| publisher.accept_within(written, deadline));
        async move {
            match written {
                Some(accepted) => accepted.await,
                None => Ok(()),
            }
        }
    }

    /// Takes the event, unless it was taken before.
    fn take(&mut self) -> Option<Result<Arc<EncodedEvent>, Rejection>> {
        let event = self.event.take()?;
        Some(match self.refused.take() {
            None => self.publisher.write(event, self.traceparent.take(), self.typed),
            Some(rejection) => {
                let event_type = event.known_type().map_or("other", EventType::name);
                self.publisher.refuse(event_type, event.bom_id, &rejection);
                Err(rejection)
            }
        })
    }
}

impl<P: Serialize> Drop for Entry<'_, P> {
    fn drop(&mut self) {
        if let Some(Ok(message)) = self.take() {
            let _ = self.publisher.try_send(message); // it is counted and logged
        }
    }
}

/// Values of the payload of one type.
impl<'w, P: Payload> Entry<'w, P> {
    fn payload(self, set: impl FnOnce(&mut P)) -> Self {
        self.with(|event| set(&mut event.payload))
    }
}

impl<'w> Entry<'w, ProcessingStarted<'w>> {
    /// Sets a text about the origin of the BOM.
    pub fn message(self, message: impl Into<Cow<'w, str>>) -> Self {
        self.payload(|payload| payload.message = Some(message.into()))
    }
}

impl<'w> Entry<'w, StageCompleted<'w>> {
    /// Sets figures of the stage: any value that serializes to a JSON object.
    pub fn metrics(self, metrics: &impl Serialize) -> Self {
        match Object::from_value(metrics) {
            Ok(metrics) => self.payload(|payload| payload.metrics = Some(metrics)),
            Err(_) => self.refuse(not_an_object("metrics")),
        }
    }
}

impl<'w> Entry<'w, EnrichmentProgress<'w>> {
    /// Sets the confidence of the match, 0-1.
    pub fn confidence(self, confidence: f64) -> Self {
        let valid = Confidence::try_from(confidence).is_ok();
        let entry = self.payload(|payload| payload.confidence = Some(Confidence::unchecked(confidence)));
        entry.number("confidence", confidence, valid)
    }

    /// Sets the supplier that answered.
    pub fn supplier(self, supplier: impl Into<Cow<'w, str>>) -> Self {
        self.payload(|payload| payload.supplier = Some(supplier.into()))
    }

    /// Sets details of the match: any value that serializes to a JSON object.
    pub fn match_details(self, details: &impl Serialize) -> Self {
        match Object::from_value(details) {
            Ok(details) => self.payload(|payload| payload.match_details = Some(details)),
            Err(_) => self.refuse(not_an_object("match_details")),
        }
    }
}

impl<'w> Entry<'w, RiskAlert<'w>> {
    /// Sets a severity other than that of the score.
    pub fn severity(self, severity: Severity) -> Self {
        let alert = self.payload(|payload| payload.severity = severity);
        alert.with(|event| event.routing_key = event.payload.routing_key())
    }

    /// Sets the factors of the score.
    pub fn risk_factors(self, factors: &impl Serialize) -> Self {
        match to_raw_value(factors) {
            Ok(factors) => self.payload(|payload| payload.risk_factors = Some(Cow::Owned(factors))),
            Err(_) => {
                self.refuse(Rejection::of(Reason::InvalidField, "risk_factors", "cannot be written as JSON"))
            }
        }
    }
}

impl<'w> Entry<'w, ErrorRaised<'w>> {
    /// Sets the error's code.
    pub fn code(self, code: impl Into<Cow<'w, str>>) -> Self {
        self.payload(|payload| payload.error_code = Some(code.into()))
    }

    /// Sets further details: any value that serializes to a JSON object.
    pub fn details(self, details: &impl Serialize) -> Self {
        match Object::from_value(details) {
            Ok(details) => self.payload(|payload| payload.error_details = Some(details)),
            Err(_) => self.refuse(not_an_object("error_details")),
        }
    }
}

impl<'w> Entry<'w, ComponentMatched<'w>> {
    /// Sets the manufacturer.
    pub fn manufacturer(self, manufacturer: impl Into<Cow<'w, str>>) -> Self {
        self.payload(|payload| payload.manufacturer = Some(manufacturer.into()))
    }

    /// Sets the confidence of the match, 0-1.
    pub fn confidence(self, confidence: f64) -> Self {
        let valid = Confidence::try_from(confidence).is_ok();
        let entry = self.payload(|payload| payload.confidence = Some(Confidence::unchecked(confidence)));
        entry.number("confidence", confidence, valid)
    }

    /// Sets the supplier that answered.
    pub fn supplier(self, supplier: impl Into<Cow<'w, str>>) -> Self {
        self.payload(|payload| payload.supplier = Some(supplier.into()))
    }
}

impl<'w> Entry<'w, ApiCallMade<'w>> {
    /// Sets the HTTP status of the response.
    pub fn status_code(self, status_code: u16) -> Self {
        self.payload(|payload| payload.status_code = Some(status_code))
    }

    /// Sets the duration of the call.
    pub fn duration(self, duration: std::time::Duration) -> Self {
        self.payload(|payload| payload.duration_ms = Some(milliseconds(duration)))
    }
}

/// Returns a duration in the unit of payloads.
pub(super) fn milliseconds(duration: std::time::Duration) -> Milliseconds {
    Milliseconds::unchecked(duration.as_micros() as f64 / 1000.0)
}

/// Serializes a value that must be a JSON object.
pub(super) fn object(field: &'static str, value: &impl Serialize) -> Result<Box<RawValue>, Rejection> {
    match to_raw_value(value) {
        Ok(raw) if raw.get().starts_with('{') => Ok(raw),
        _ => Err(not_an_object(field)),
    }
}

/// Returns the rejection of a value. The serializer's message may quote the value, and is left out.
fn not_an_object(field: &'static str) -> Rejection {
    Rejection::of(Reason::InvalidField, field, "cannot be written as a JSON object")
}
