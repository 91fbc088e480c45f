//! The event as a type.

use std::borrow::Cow;

use chrono::{DateTime, Datelike, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use uuid::Uuid;

use super::event_type::{DEFAULT_PRIORITY, EventType};
use super::limits::{MAX_ID_CHARS, MAX_TYPE_CHARS};
use super::payload::Object;
use super::rules::Rules;
use super::source::Source;
use super::storable;

/// Initial capacity for a body, in bytes: usual bodies fit without a reallocation.
const BODY_BYTES: usize = 1024;

/// One event, as a producer publishes it and the table stores it.
///
/// `state` and `payload` are JSON objects. A received event keeps their text unchanged. An event that is about to be published
/// has a typed payload `P`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Event<'a, P = Cow<'a, RawValue>> {
    /// Deduplication key, 1-255 characters.
    #[schemars(length(min = 1, max = 255))]
    pub event_id: Cow<'a, str>,
    /// Type of the event, 1-100 characters. Unknown types are stored as well.
    #[schemars(length(min = 1, max = 100))]
    pub event_type: Cow<'a, str>,
    /// Routing key of the message; not a part of the body.
    #[serde(skip)]
    pub routing_key: Cow<'a, str>,
    /// BOM that the event is about.
    pub bom_id: Uuid,
    /// Tenant that owns the event: row-level security lets only this tenant read it.
    pub tenant_id: Uuid,
    /// Organization, as the producer names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub organization_id: Option<Cow<'a, str>>,
    /// Project of the BOM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project_id: Option<Uuid>,
    /// User who acted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<Uuid>,
    /// Source of the event.
    pub source: Source,
    /// Workflow that the event belongs to, 0-255 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub workflow_id: Option<Cow<'a, str>>,
    /// State of the workflow, as the producer knows it.
    #[schemars(with = "Object<'_>")]
    pub state: Cow<'a, RawValue>,
    /// Data of the event; its fields depend on the type.
    pub payload: P,
    /// Time of the event.
    pub created_at: DateTime<Utc>,
}

impl Event<'_> {
    /// Returns a copy that borrows nothing.
    #[must_use]
    pub fn to_static(&self) -> Event<'static> {
        let text = |text: &Cow<'_, str>| Cow::Owned(text.clone().into_owned());
        let json = |json: &Cow<'_, RawValue>| Cow::Owned(json.clone().into_owned());
        Event {
            event_id: text(&self.event_id),
            event_type: text(&self.event_type),
            routing_key: text(&self.routing_key),
            bom_id: self.bom_id,
            tenant_id: self.tenant_id,
            organization_id: self.organization_id.as_ref().map(text),
            project_id: self.project_id,
            user_id: self.user_id,
            source: self.source,
            workflow_id: self.workflow_id.as_ref().map(text),
            state: json(&self.state),
            payload: json(&self.payload),
            created_at: self.created_at,
        }
    }
}

impl<'a, P: Serialize> Event<'a, P> {
    /// Returns the known type of this event.
    #[must_use]
    pub fn known_type(&self) -> Option<EventType> {
        EventType::from_name(&self.event_type)
    }

    /// Returns the AMQP priority: the priority of a known type, else [`DEFAULT_PRIORITY`].
    #[must_use]
    pub fn priority(&self) -> u8 {
        self.known_type().map_or(DEFAULT_PRIORITY, |known| known.priority(&self.routing_key))
    }

    /// Returns whether the worker will store the event; `body` is its serialized form, and its state and payload are objects.
    /// After `false` the caller decodes the body to know.
    pub(crate) fn is_plain(&self, body: &[u8], rules: &Rules) -> bool {
        // A quote inside a string is escaped, so that this finds the key. All strings but the time are in front of it.
        let Some(objects) = memchr::memmem::find(body, b",\"state\":{") else { return false };
        let (strings, objects) = body.split_at(objects);
        // A text never has fewer bytes than characters. A NUL is written with a backslash, which is searched for below.
        (1..=MAX_ID_CHARS).contains(&self.event_id.len())
            && (1..=MAX_TYPE_CHARS).contains(&self.event_type.len())
            && self.workflow_id.as_ref().is_none_or(|id| id.len() <= MAX_ID_CHARS)
            && self.routing_key.len() <= MAX_ID_CHARS
            && !self.routing_key.contains('\0')
            // RFC 3339 has years of four digits.
            && (0..=9999).contains(&self.created_at.year())
            && body.len() <= rules.max_message_bytes
            && memchr::memchr(b'\\', strings).is_none()
            && !storable::suspicious(objects)
    }

    /// Returns the message body: one UTF-8 JSON object.
    ///
    /// # Errors
    /// Fails if the payload cannot be serialized; the payload of a received event always can.
    pub fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut body = Vec::with_capacity(BODY_BYTES);
        serde_json::to_writer(&mut body, self)?;
        Ok(body)
    }

    /// Returns the event with its payload serialized.
    ///
    /// # Errors
    /// Fails if the payload cannot be serialized.
    pub fn written(self) -> Result<Event<'a>, serde_json::Error> {
        let payload = Cow::Owned(to_raw_value(&self.payload)?);
        Ok(Event {
            event_id: self.event_id,
            event_type: self.event_type,
            routing_key: self.routing_key,
            bom_id: self.bom_id,
            tenant_id: self.tenant_id,
            organization_id: self.organization_id,
            project_id: self.project_id,
            user_id: self.user_id,
            source: self.source,
            workflow_id: self.workflow_id,
            state: self.state,
            payload,
            created_at: self.created_at,
        })
    }
}
