//! The contract as types: what an event is, how it is read and written, and why one is refused. No I/O.

pub mod contract;
mod decode;
mod event_type;
pub mod headers;
pub mod payload;
mod rejection;
pub mod schema;
mod state;
mod storable;
mod workflow;

use std::borrow::Cow;

use chrono::{DateTime, Datelike, Utc};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};
use uuid::Uuid;

pub use decode::{Decoded, PayloadPolicy, ReceivedMessage, Rules, decode, empty_object};
pub use event_type::EventType;
pub use payload::Payload;
pub use rejection::{Reason, Rejection};
pub use state::WorkflowState;
pub use storable::{MAX_NESTING, storable};
pub use workflow::Workflow;

/// The namespace in which an organization's tenant id is made where an event names no tenant:
/// `UUIDv5(NAMESPACE, organization_id)`.
///
/// It is itself `UUIDv5(NAMESPACE_DNS, "organization.cns-events")`. Fixed for ever: another value would give
/// every organization another tenant.
pub const TENANT_NAMESPACE: Uuid = Uuid::from_u128(0xc237_4d75_f6f3_5b2e_9b8f_2eac_53d9_11bc);

/// Characters of an `event_id`, a `workflow_id` and a routing key, as the table has them.
pub const MAX_ID_CHARS: usize = 255;

/// Characters of an `event_type`, as the table has them.
pub const MAX_TYPE_CHARS: usize = 100;

/// Room for a usual body (bytes), so that writing one rarely has to move it.
const BODY_BYTES: usize = 1024;

/// Who caused an event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The customer portal, and everything that does not say otherwise.
    #[default]
    Customer,
    /// Staff.
    Staff,
}

impl Source {
    /// As the table's CHECK constraint spells it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Source::Customer => "customer",
            Source::Staff => "staff",
        }
    }
}

/// One event: what a producer publishes and what the table holds.
///
/// `state` and `payload` are JSON objects. An event that was read keeps them as the text they came in: they are
/// checked, never rebuilt. One that is about to be published has a typed payload `P`.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Event<'a, P = Cow<'a, RawValue>> {
    /// The deduplication key, 1-255 characters.
    #[schemars(length(min = 1, max = 255))]
    pub event_id: Cow<'a, str>,
    /// 1-100 characters; any type is stored, known ([`EventType`]) or not.
    #[schemars(length(min = 1, max = 100))]
    pub event_type: Cow<'a, str>,
    /// The key the message is published under, or arrived with. Travels beside the body, not in it.
    #[serde(skip)]
    pub routing_key: Cow<'a, str>,
    /// The BOM this is about.
    pub bom_id: Uuid,
    /// Whose it is: the tenant that row-level security lets read it.
    pub tenant_id: Uuid,
    /// The organization as the producer names it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub organization_id: Option<Cow<'a, str>>,
    /// The project, where there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub project_id: Option<Uuid>,
    /// Who acted, where somebody did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user_id: Option<Uuid>,
    /// Who caused it.
    pub source: Source,
    /// The workflow, 0-255 characters.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 255))]
    pub workflow_id: Option<Cow<'a, str>>,
    /// The workflow's state as the producer knows it.
    #[schemars(with = "payload::Object<'_>")]
    pub state: Cow<'a, RawValue>,
    /// What happened.
    pub payload: P,
    /// When it happened.
    pub created_at: DateTime<Utc>,
}

impl<'a, P: Serialize> Event<'a, P> {
    /// The known type of this event, if it is one.
    #[must_use]
    pub fn kind(&self) -> Option<EventType> {
        EventType::from_name(&self.event_type)
    }

    /// The AMQP priority it is published with: that of its type, and 5 for a type that the contract does not name.
    #[must_use]
    pub fn priority(&self) -> u8 {
        self.kind().map_or(5, |kind| kind.priority(&self.routing_key))
    }

    /// Whether the event can be stored without anything in it that needs a second look; `body` is what it was written as,
    /// and its state and payload are objects. `false` says nothing: decode the body to know.
    pub(crate) fn is_plain(&self, body: &[u8], rules: &Rules) -> bool {
        // No string holds a quote that is not escaped, so that this is the key, which stands behind all other strings but
        // the time.
        let Some(objects) = memchr::memmem::find(body, b",\"state\":{") else { return false };
        let (strings, objects) = body.split_at(objects);
        // Bytes are never fewer than characters. A NUL is written with a backslash, which is not plain.
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

    /// The message body: one UTF-8 JSON object.
    ///
    /// # Errors
    /// Where the payload cannot be serialized; one that was read always can.
    pub fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut body = Vec::with_capacity(BODY_BYTES);
        serde_json::to_writer(&mut body, self)?;
        Ok(body)
    }

    /// The same event with its payload written out.
    ///
    /// # Errors
    /// Where the payload cannot be serialized.
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

/// The tenant of an event that names an organization only: the id itself where it is a UUID, else a `UUIDv5`
/// in [`TENANT_NAMESPACE`].
#[must_use]
pub fn tenant_of(organization_id: &str) -> Uuid {
    Uuid::try_parse(organization_id)
        .unwrap_or_else(|_| Uuid::new_v5(&TENANT_NAMESPACE, organization_id.as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tenant_namespace_is_what_its_documentation_says() {
        assert_eq!(TENANT_NAMESPACE, Uuid::new_v5(&Uuid::NAMESPACE_DNS, b"organization.cns-events"));
    }

    #[test]
    fn a_uuid_is_its_own_tenant() {
        let id = "550e8400-e29b-41d4-a716-446655440000";
        assert_eq!(tenant_of(id).to_string(), id);
        assert_eq!(tenant_of("org-123"), tenant_of("org-123"));
        assert_ne!(tenant_of("org-123"), tenant_of("org-124"));
    }
}
