//! One event, on its way to being logged.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use uuid::Uuid;

use super::{LogError, Publisher};
use crate::event::payload::{
    ApiCallMade, ComponentMatched, Confidence, EnrichmentProgress, ErrorRaised, Milliseconds, Object,
    ProcessingStarted, RiskAlert, Severity, StageCompleted,
};
use crate::event::{Event, EventType, Payload, Reason, Rejection};
use crate::message::EncodedEvent;
use crate::trace;

/// An event that is logged when this value goes, at the end of the statement that made it.
///
/// Optional values are added to it on the way: `workflow.log_error("timed out").code("E42");`
#[derive(Debug)]
pub struct Entry<'w, P: Serialize> {
    publisher: &'w Publisher,
    /// `None` when it has been logged.
    event: Option<Event<'w, P>>,
    traceparent: Option<String>,
    /// A value that was given and is none.
    refused: Option<Rejection>,
    /// Whether the payload is known to have the schema of its type: the compiler knows it of all but numbers.
    typed: bool,
}

impl<'w, P: Serialize> Entry<'w, P> {
    pub(super) fn new(publisher: &'w Publisher, event: Event<'w, P>) -> Self {
        let traceparent = trace::traceparent();
        Entry { publisher, event: Some(event), traceparent, refused: None, typed: true }
    }

    /// An entry whose payload may have another schema than its type.
    pub(super) fn unsure(mut self) -> Self {
        self.typed = false;
        self
    }

    /// An entry whose payload could not be made.
    pub(super) fn refuse(mut self, rejection: Rejection) -> Self {
        self.refused.get_or_insert(rejection);
        self
    }

    /// A number that was given, and whether its type allows it. One that JSON has no word for is refused.
    pub(super) fn number(self, field: &'static str, value: f64, sure: bool) -> Self {
        match (sure, value.is_finite()) {
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

    /// A deduplication key of the caller's, 1-255 characters: an event that comes again with it is the same event.
    pub fn event_id(self, event_id: impl Into<Cow<'w, str>>) -> Self {
        self.with(|event| event.event_id = event_id.into())
    }

    /// Who acted.
    pub fn user(self, user_id: Uuid) -> Self {
        self.with(|event| event.user_id = Some(user_id))
    }

    /// When it happened; now unless given.
    pub fn created_at(self, created_at: DateTime<Utc>) -> Self {
        self.with(|event| event.created_at = created_at)
    }

    /// The workflow's state at this event, in place of that which was [set](super::WorkflowPublisher::set_state).
    pub fn state(self, state: &impl Serialize) -> Self {
        match object("state", state) {
            Ok(state) => self.with(|event| event.state = Cow::Owned(state)),
            Err(rejection) => self.refuse(rejection),
        }
    }

    /// A routing key of the caller's, which begins with `cns.`; that of the type unless given.
    pub fn routing_key(self, routing_key: impl Into<Cow<'w, str>>) -> Self {
        self.with(|event| event.routing_key = routing_key.into())
    }

    /// The trace it belongs to (W3C Trace Context); that of the active span unless given, where the feature
    /// `opentelemetry` is on.
    pub fn traceparent(mut self, traceparent: impl Into<String>) -> Self {
        self.traceparent = Some(traceparent.into());
        self
    }

    /// Logs it now, and waits for room until the deadline where there is none: not for the broker's confirm. Needs a tokio
    /// runtime. Where the future is dropped before it is done, the event is dropped and counted.
    ///
    /// # Errors
    /// Why it was not accepted.
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

    /// What there is to log, if it was not taken before.
    fn take(&mut self) -> Option<Result<Arc<EncodedEvent>, Rejection>> {
        let event = self.event.take()?;
        Some(match self.refused.take() {
            None => self.publisher.write(event, self.traceparent.take(), self.typed),
            Some(rejection) => {
                let kind = event.kind().map_or("other", EventType::name);
                self.publisher.refuse(kind, event.bom_id, &rejection);
                Err(rejection)
            }
        })
    }
}

impl<P: Serialize> Drop for Entry<'_, P> {
    fn drop(&mut self) {
        if let Some(Ok(message)) = self.take() {
            self.publisher.accept(message);
        }
    }
}

/// What only the payload of one type has.
impl<'w, P: Payload> Entry<'w, P> {
    fn payload(self, set: impl FnOnce(&mut P)) -> Self {
        self.with(|event| set(&mut event.payload))
    }
}

impl<'w> Entry<'w, ProcessingStarted<'w>> {
    /// Where the BOM came from, for people.
    pub fn message(self, message: impl Into<Cow<'w, str>>) -> Self {
        self.payload(|payload| payload.message = Some(message.into()))
    }
}

impl<'w> Entry<'w, StageCompleted<'w>> {
    /// Figures of the stage: anything that serializes to a JSON object.
    pub fn metrics(self, metrics: &impl Serialize) -> Self {
        match Object::from_value(metrics) {
            Ok(metrics) => self.payload(|payload| payload.metrics = Some(metrics)),
            Err(_) => self.refuse(not_an_object("metrics")),
        }
    }
}

impl<'w> Entry<'w, EnrichmentProgress<'w>> {
    /// How sure the match is, 0-1.
    pub fn confidence(self, confidence: f64) -> Self {
        let sure = Confidence::try_from(confidence).is_ok();
        let entry = self.payload(|payload| payload.confidence = Some(Confidence::unchecked(confidence)));
        entry.number("confidence", confidence, sure)
    }

    /// Who answered.
    pub fn supplier(self, supplier: impl Into<Cow<'w, str>>) -> Self {
        self.payload(|payload| payload.supplier = Some(supplier.into()))
    }

    /// Details of the match: anything that serializes to a JSON object.
    pub fn match_details(self, details: &impl Serialize) -> Self {
        match Object::from_value(details) {
            Ok(details) => self.payload(|payload| payload.match_details = Some(details)),
            Err(_) => self.refuse(not_an_object("match_details")),
        }
    }
}

impl<'w> Entry<'w, RiskAlert<'w>> {
    /// Another severity than the score stands for.
    pub fn severity(self, severity: Severity) -> Self {
        let alert = self.payload(|payload| payload.severity = severity);
        alert.with(|event| event.routing_key = event.payload.routing_key())
    }

    /// What the score is made of.
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
    /// A code to search for.
    pub fn code(self, code: impl Into<Cow<'w, str>>) -> Self {
        self.payload(|payload| payload.error_code = Some(code.into()))
    }

    /// What else is known: anything that serializes to a JSON object.
    pub fn details(self, details: &impl Serialize) -> Self {
        match Object::from_value(details) {
            Ok(details) => self.payload(|payload| payload.error_details = Some(details)),
            Err(_) => self.refuse(not_an_object("error_details")),
        }
    }
}

impl<'w> Entry<'w, ComponentMatched<'w>> {
    /// Who makes it.
    pub fn manufacturer(self, manufacturer: impl Into<Cow<'w, str>>) -> Self {
        self.payload(|payload| payload.manufacturer = Some(manufacturer.into()))
    }

    /// How sure the match is, 0-1.
    pub fn confidence(self, confidence: f64) -> Self {
        let sure = Confidence::try_from(confidence).is_ok();
        let entry = self.payload(|payload| payload.confidence = Some(Confidence::unchecked(confidence)));
        entry.number("confidence", confidence, sure)
    }

    /// Who answered.
    pub fn supplier(self, supplier: impl Into<Cow<'w, str>>) -> Self {
        self.payload(|payload| payload.supplier = Some(supplier.into()))
    }
}

impl<'w> Entry<'w, ApiCallMade<'w>> {
    /// The HTTP status of the answer.
    pub fn status_code(self, status_code: u16) -> Self {
        self.payload(|payload| payload.status_code = Some(status_code))
    }

    /// How long the call took.
    pub fn duration(self, duration: std::time::Duration) -> Self {
        self.payload(|payload| payload.duration_ms = Some(milliseconds(duration)))
    }
}

/// A length of time as payloads have it.
pub(super) fn milliseconds(duration: std::time::Duration) -> Milliseconds {
    Milliseconds::unchecked(duration.as_micros() as f64 / 1000.0)
}

/// A value that has to be a JSON object.
pub(super) fn object(field: &'static str, value: &impl Serialize) -> Result<Box<RawValue>, Rejection> {
    match to_raw_value(value) {
        Ok(raw) if raw.get().starts_with('{') => Ok(raw),
        _ => Err(not_an_object(field)),
    }
}

/// The serializer's own words may quote the value.
fn not_an_object(field: &'static str) -> Rejection {
    Rejection::of(Reason::InvalidField, field, "cannot be written as a JSON object")
}
