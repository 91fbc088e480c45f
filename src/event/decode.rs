//! From a message to an event: section 2 of the contract, rule by rule.
//!
//! The body is parsed once. Each top-level value stays a slice of the body until its field's rule reads it. `state` and
//! `payload` are checked, and stored as they are.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::envelope::Event;
use super::event_type::EventType;
use super::fields::{Field, Fields};
use super::limits::{MAX_ID_CHARS, MAX_TYPE_CHARS};
use super::rejection::{Reason, Rejection};
use super::rules::{PayloadPolicy, Rules};
use super::schema;
use super::source::Source;
use super::tenant::tenant_of;
use super::values::{limited, missing, object, property, text, time, timestamp, uuid};

/// A message as the broker delivered it, free of any client library's types.
#[derive(Clone, Copy, Debug)]
pub struct ReceivedMessage<'a> {
    /// Body.
    pub body: &'a [u8],
    /// Routing key that the message arrived with.
    pub routing_key: &'a str,
    /// AMQP property `message_id`, the default of `event_id`.
    pub message_id: Option<&'a str>,
    /// AMQP property `type`, the default of `event_type`.
    pub event_type: Option<&'a str>,
    /// AMQP property `timestamp` in seconds since 1970, the default of `created_at`.
    pub timestamp: Option<u64>,
    /// Time of receipt, the default of `created_at` without a timestamp.
    pub received_at: DateTime<Utc>,
}

/// An event, and the corrections that were needed to read it.
#[derive(Debug)]
pub struct Decoded<'a> {
    /// The event, ready to be stored.
    pub event: Event<'a>,
    /// `source` was absent or unknown, and became `customer`.
    pub source_corrected: bool,
    /// The time is the AMQP `timestamp`, which counts in another unit than seconds.
    pub timestamp_corrected: bool,
    /// Number of top-level fields that the contract does not define and that are not stored.
    pub ignored_fields: u64,
    /// Violation of the payload's schema that [`PayloadPolicy::Warn`] accepted.
    pub schema_violation: Option<String>,
}

/// Decodes one message.
///
/// A field that is `null` counts as absent.
///
/// # Errors
/// The reason for which the message is dead-lettered.
pub fn decode<'a>(message: &ReceivedMessage<'a>, rules: &Rules) -> Result<Decoded<'a>, Rejection> {
    if message.body.len() > rules.max_message_bytes {
        let (bytes, max) = (message.body.len(), rules.max_message_bytes);
        let detail = format!("the body has {bytes} bytes, more than the limit of {max}");
        return Err(Rejection::new(Reason::TooLarge, detail));
    }
    let fields = Fields::read(message.body)?;
    let event_id = event_id(&fields, message)?;
    let event_type = event_type(&fields, message)?;
    let bom_id = uuid(Field::BomId, fields.get(Field::BomId))?
        .ok_or_else(|| missing(Field::BomId, "although it is required"))?;
    let organization_id = text(Field::OrganizationId, fields.get(Field::OrganizationId))?;
    let tenant_id = tenant_id(&fields, organization_id.as_deref())?;
    let project_id = uuid(Field::ProjectId, fields.get(Field::ProjectId))?;
    let user_id = uuid(Field::UserId, fields.get(Field::UserId))?;
    let named_source = source(&fields);
    let workflow_id = match text(Field::WorkflowId, fields.get(Field::WorkflowId))? {
        Some(id) => Some(limited(Field::WorkflowId.name(), id, 0, MAX_ID_CHARS)?),
        None => None,
    };
    let state = object(Field::State, fields.get(Field::State), rules.max_text_bytes())?;
    let payload = object(Field::Payload, fields.get(Field::Payload), rules.max_text_bytes())?;
    let (created_at, timestamp_corrected) = created_at(&fields, message)?;
    let routing_key = limited("routing_key", property("routing_key", message.routing_key)?, 0, MAX_ID_CHARS)?;
    let schema_violation = schema_violation(rules.payload, &event_type, payload.get())?;
    Ok(Decoded {
        event: Event {
            event_id,
            event_type,
            routing_key,
            bom_id,
            tenant_id,
            organization_id,
            project_id,
            user_id,
            source: named_source.unwrap_or_default(),
            workflow_id,
            state,
            payload,
            created_at,
        },
        source_corrected: named_source.is_none(),
        timestamp_corrected,
        ignored_fields: fields.ignored,
        schema_violation,
    })
}

fn event_id<'a>(fields: &Fields<'a>, message: &ReceivedMessage<'a>) -> Result<Cow<'a, str>, Rejection> {
    match (text(Field::EventId, fields.get(Field::EventId))?, message.message_id) {
        (Some(id), _) => limited(Field::EventId.name(), id, 1, MAX_ID_CHARS),
        (None, Some(id)) => limited("message_id", property("message_id", id)?, 1, MAX_ID_CHARS),
        (None, None) => Err(missing(Field::EventId, "and the message has no message_id")),
    }
}

fn event_type<'a>(fields: &Fields<'a>, message: &ReceivedMessage<'a>) -> Result<Cow<'a, str>, Rejection> {
    match (text(Field::EventType, fields.get(Field::EventType))?, message.event_type) {
        (Some(name), _) => limited(Field::EventType.name(), name, 1, MAX_TYPE_CHARS),
        (None, Some(name)) => limited("type", property("type", name)?, 1, MAX_TYPE_CHARS),
        (None, None) => Err(missing(Field::EventType, "and the message has no type")),
    }
}

fn tenant_id(fields: &Fields<'_>, organization_id: Option<&str>) -> Result<Uuid, Rejection> {
    match (uuid(Field::TenantId, fields.get(Field::TenantId))?, organization_id) {
        (Some(tenant), _) => Ok(tenant),
        (None, Some(organization)) if !organization.is_empty() => Ok(tenant_of(organization)),
        _ => Err(missing(Field::TenantId, "and there is no organization_id to derive it from")),
    }
}

/// Returns the source, unless it is absent or unknown.
fn source(fields: &Fields<'_>) -> Option<Source> {
    let name = text(Field::Source, fields.get(Field::Source)).ok().flatten()?;
    Source::from_name(&name)
}

/// Returns the time, and whether the message has it in another unit than AMQP's.
fn created_at(
    fields: &Fields<'_>,
    message: &ReceivedMessage<'_>,
) -> Result<(DateTime<Utc>, bool), Rejection> {
    if let Some(time) = time(Field::CreatedAt, fields.get(Field::CreatedAt))? {
        return Ok((time, false));
    }
    let stamp = message.timestamp.map(timestamp).transpose()?.flatten();
    Ok(stamp.unwrap_or((message.received_at, false)))
}

/// Checks the payload of a known type. Returns the violation that the policy accepts.
fn schema_violation(
    policy: PayloadPolicy,
    event_type: &str,
    payload: &str,
) -> Result<Option<String>, Rejection> {
    let event_type = match policy {
        PayloadPolicy::Off => None,
        PayloadPolicy::Warn | PayloadPolicy::Reject => EventType::from_name(event_type),
    };
    match event_type.and_then(|event_type| schema::check(event_type, payload).err()) {
        Some(detail) if policy == PayloadPolicy::Reject => {
            let mut rejection = Rejection::new(Reason::PayloadSchema, detail);
            rejection.field = Some(Cow::Borrowed(Field::Payload.name()));
            Err(rejection)
        }
        violation => Ok(violation),
    }
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
