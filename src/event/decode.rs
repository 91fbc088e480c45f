//! From a message to an event: section 2 of the contract, rule by rule.
//!
//! The body is read once. Each top-level value is kept as the slice of the body it is, and interpreted by the
//! rule of its field; `state` and `payload` are never interpreted at all, only checked.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use chrono::{DateTime, Utc};
use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::rejection::{Reason, Rejection};
use super::storable::{self, Unstorable};
use super::{Event, EventType, MAX_ID_CHARS, MAX_TYPE_CHARS, Source, schema, tenant_of};

/// What to do with a payload that does not match its type's schema (`validation.payload`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PayloadPolicy {
    /// Store it and count it.
    #[default]
    Warn,
    /// Dead-letter it as [`Reason::PayloadSchema`].
    Reject,
    /// Do not look.
    Off,
}

/// The rules that configuration sets.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// The largest body, in bytes.
    pub max_message_bytes: usize,
    /// What becomes of a payload that breaks its schema.
    pub payload: PayloadPolicy,
}

/// A message as it arrived, free of any client library's types.
#[derive(Clone, Copy, Debug)]
pub struct ReceivedMessage<'a> {
    /// The body.
    pub body: &'a [u8],
    /// The routing key it arrived with.
    pub routing_key: &'a str,
    /// The AMQP property `message_id`: serves where the body has no `event_id`.
    pub message_id: Option<&'a str>,
    /// The AMQP property `type`: serves where the body has no `event_type`.
    pub event_type: Option<&'a str>,
    /// The AMQP property `timestamp`, seconds since 1970: serves where the body has no `created_at`.
    pub timestamp: Option<u64>,
    /// When it was received: serves where nothing else tells.
    pub received_at: DateTime<Utc>,
}

/// An event, and what had to be done to make it one.
#[derive(Debug)]
pub struct Decoded<'a> {
    /// The event, ready to be stored.
    pub event: Event<'a>,
    /// `source` was absent or unknown and became `customer`.
    pub source_corrected: bool,
    /// Top-level fields that the contract does not know, and that are not stored.
    pub ignored_fields: u64,
    /// How the payload breaks its type's schema, where it does and [`PayloadPolicy::Warn`] lets it pass.
    pub schema_violation: Option<String>,
}

/// Decodes one message.
///
/// A field that is `null` counts as absent.
///
/// # Errors
/// The reason for which it is dead-lettered.
pub fn decode<'a>(message: &ReceivedMessage<'a>, rules: &Rules) -> Result<Decoded<'a>, Rejection> {
    if message.body.len() > rules.max_message_bytes {
        return Err(Rejection::new(
            Reason::TooLarge,
            format!("the body has {} bytes; {} are allowed", message.body.len(), rules.max_message_bytes),
        ));
    }
    let fields = read_fields(message.body)?;

    let event_id = match text(Field::EventId, fields.get(Field::EventId))? {
        Some(id) => limited(Field::EventId.name(), id, 1, MAX_ID_CHARS)?,
        None => match message.message_id {
            Some(id) => limited("message_id", property("message_id", id)?, 1, MAX_ID_CHARS)?,
            None => return Err(missing(Field::EventId, "and the message has no message_id")),
        },
    };
    let event_type = match text(Field::EventType, fields.get(Field::EventType))? {
        Some(name) => limited(Field::EventType.name(), name, 1, MAX_TYPE_CHARS)?,
        None => match message.event_type {
            Some(name) => limited("type", property("type", name)?, 1, MAX_TYPE_CHARS)?,
            None => return Err(missing(Field::EventType, "and the message has no type")),
        },
    };
    let bom_id =
        uuid(Field::BomId, fields.get(Field::BomId))?.ok_or_else(|| missing(Field::BomId, "but required"))?;
    let organization_id = text(Field::OrganizationId, fields.get(Field::OrganizationId))?;
    let tenant_id = match uuid(Field::TenantId, fields.get(Field::TenantId))? {
        Some(tenant) => tenant,
        None => match organization_id.as_deref() {
            Some(organization) if !organization.is_empty() => tenant_of(organization),
            _ => return Err(missing(Field::TenantId, "and there is no organization_id to make it from")),
        },
    };
    let project_id = uuid(Field::ProjectId, fields.get(Field::ProjectId))?;
    let user_id = uuid(Field::UserId, fields.get(Field::UserId))?;
    let (source, source_corrected) =
        match text(Field::Source, fields.get(Field::Source)).ok().flatten().as_deref() {
            Some("customer") => (Source::Customer, false),
            Some("staff") => (Source::Staff, false),
            _ => (Source::default(), true),
        };
    let workflow_id = match text(Field::WorkflowId, fields.get(Field::WorkflowId))? {
        Some(id) => Some(limited(Field::WorkflowId.name(), id, 0, MAX_ID_CHARS)?),
        None => None,
    };
    let state = object(Field::State, fields.get(Field::State))?;
    let payload = object(Field::Payload, fields.get(Field::Payload))?;
    let created_at = created_at(fields.get(Field::CreatedAt), message)?;
    let routing_key = limited("routing_key", property("routing_key", message.routing_key)?, 0, MAX_ID_CHARS)?;

    let schema_violation = match (rules.payload, EventType::from_name(&event_type)) {
        (PayloadPolicy::Off, _) | (_, None) => None,
        (policy, Some(kind)) => match (schema::check(kind, payload.get()), policy) {
            (Err(detail), PayloadPolicy::Reject) => {
                let mut rejection = Rejection::new(Reason::PayloadSchema, detail);
                rejection.field = Some(Cow::Borrowed(Field::Payload.name()));
                return Err(rejection);
            }
            (checked, _) => checked.err(),
        },
    };
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
            source,
            workflow_id,
            state,
            payload,
            created_at,
        },
        source_corrected,
        ignored_fields: fields.ignored,
        schema_violation,
    })
}

/// The top-level fields of the contract.
#[derive(Clone, Copy)]
enum Field {
    EventId,
    EventType,
    BomId,
    TenantId,
    OrganizationId,
    ProjectId,
    UserId,
    Source,
    WorkflowId,
    State,
    Payload,
    CreatedAt,
}

impl Field {
    const ALL: [Field; 12] = [
        Field::EventId,
        Field::EventType,
        Field::BomId,
        Field::TenantId,
        Field::OrganizationId,
        Field::ProjectId,
        Field::UserId,
        Field::Source,
        Field::WorkflowId,
        Field::State,
        Field::Payload,
        Field::CreatedAt,
    ];

    const fn name(self) -> &'static str {
        match self {
            Field::EventId => "event_id",
            Field::EventType => "event_type",
            Field::BomId => "bom_id",
            Field::TenantId => "tenant_id",
            Field::OrganizationId => "organization_id",
            Field::ProjectId => "project_id",
            Field::UserId => "user_id",
            Field::Source => "source",
            Field::WorkflowId => "workflow_id",
            Field::State => "state",
            Field::Payload => "payload",
            Field::CreatedAt => "created_at",
        }
    }
}

/// The values of the body's top level, each as the slice it is.
#[derive(Default)]
struct Fields<'a> {
    values: [Option<&'a RawValue>; Field::ALL.len()],
    unknown: HashSet<Cow<'a, str>>,
    ignored: u64,
    duplicate: Option<String>,
}

impl<'a> Fields<'a> {
    /// The value of a field; `null` is no value.
    fn get(&self, field: Field) -> Option<&'a RawValue> {
        self.values[field as usize].filter(|value| value.get() != "null")
    }
}

fn read_fields(body: &[u8]) -> Result<Fields<'_>, Rejection> {
    let malformed = |detail: String| Rejection::new(Reason::MalformedJson, detail);
    if body.is_empty() {
        return Err(malformed("the body is empty".into()));
    }
    let text = std::str::from_utf8(body)
        .map_err(|error| malformed(format!("the body is not UTF-8 at byte {}", error.valid_up_to())))?;
    let mut reader = serde_json::Deserializer::from_str(text);
    let fields = reader
        .deserialize_map(FieldsVisitor)
        .and_then(|fields| reader.end().map(|()| fields))
        .map_err(|error| malformed(explain(&error)))?;
    match fields.duplicate {
        None => Ok(fields),
        Some(key) => {
            let mut rejection = Rejection::new(Reason::InvalidField, "stands more than once in the body");
            rejection.field = Some(Cow::Owned(key));
            Err(rejection)
        }
    }
}

/// `serde_json`'s message; a type error quotes the value it found, so that one is put in our own words.
fn explain(error: &serde_json::Error) -> String {
    if error.is_data() {
        "the body is not a JSON object".into()
    } else {
        format!("the body is not JSON: {error}")
    }
}

struct FieldsVisitor;

impl<'de> Visitor<'de> for FieldsVisitor {
    type Value = Fields<'de>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Fields::default();
        while let Some(Key(key)) = map.next_key()? {
            let value: &'de RawValue = map.next_value()?;
            let known = Field::ALL.into_iter().find(|field| field.name() == key);
            let again = match known {
                Some(field) => fields.values[field as usize].replace(value).is_some(),
                None => {
                    fields.ignored += 1;
                    fields.unknown.contains(&key)
                }
            };
            if again {
                fields.duplicate.get_or_insert_with(|| key.chars().take(MAX_TYPE_CHARS).collect());
            } else if known.is_none() {
                fields.unknown.insert(key);
            }
        }
        Ok(fields)
    }
}

/// An object's key, borrowed from the body unless it is written with escapes.
struct Key<'a>(Cow<'a, str>);

impl<'de> serde::Deserialize<'de> for Key<'de> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = Key<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a key")
            }
            fn visit_borrowed_str<E>(self, key: &'de str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Borrowed(key)))
            }
            fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
                Ok(Key(Cow::Owned(key.to_owned())))
            }
        }
        deserializer.deserialize_str(KeyVisitor)
    }
}

fn missing(field: Field, why: &str) -> Rejection {
    Rejection::of(Reason::MissingField, field.name(), format_args!("is absent, {why}"))
}

fn invalid(field: &'static str, what: impl fmt::Display) -> Rejection {
    Rejection::of(Reason::InvalidField, field, what)
}

fn unstorable(field: &'static str, what: Unstorable) -> Rejection {
    Rejection::of(Reason::Unstorable, field, what.detail())
}

/// A JSON string's text, borrowed unless it has escapes.
fn text<'a>(field: Field, value: Option<&'a RawValue>) -> Result<Option<Cow<'a, str>>, Rejection> {
    let Some(raw) = value.map(RawValue::get) else { return Ok(None) };
    let Some(inner) = raw.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else {
        return Err(invalid(field.name(), "is not a string"));
    };
    if !inner.contains('\\') {
        return Ok(Some(Cow::Borrowed(inner)));
    }
    storable::check(raw).map_err(|what| unstorable(field.name(), what))?;
    let unescaped = serde_json::from_str::<String>(raw)
        .map_err(|_| invalid(field.name(), "is not a string that can be read"))?;
    Ok(Some(Cow::Owned(unescaped)))
}

/// The text of an AMQP property that is stored.
fn property<'a>(name: &'static str, value: &'a str) -> Result<Cow<'a, str>, Rejection> {
    if value.contains('\0') { Err(unstorable(name, Unstorable::Nul)) } else { Ok(Cow::Borrowed(value)) }
}

fn limited<'a>(
    field: &'static str,
    value: Cow<'a, str>,
    min_chars: usize,
    max_chars: usize,
) -> Result<Cow<'a, str>, Rejection> {
    // Bytes are never fewer than characters, so that a short text need not be counted.
    let chars = if value.len() <= max_chars { value.len() } else { value.chars().count() };
    if chars < min_chars {
        Err(invalid(field, "is empty"))
    } else if chars > max_chars {
        Err(invalid(field, format_args!("has {chars} characters; {max_chars} are allowed")))
    } else {
        Ok(value)
    }
}

fn uuid(field: Field, value: Option<&RawValue>) -> Result<Option<Uuid>, Rejection> {
    match text(field, value)? {
        None => Ok(None),
        Some(text) => Uuid::try_parse(&text).map(Some).map_err(|_| invalid(field.name(), "is not a UUID")),
    }
}

/// A JSON object as it stands in the body; absent is `{}`.
fn object<'a>(field: Field, value: Option<&'a RawValue>) -> Result<Cow<'a, RawValue>, Rejection> {
    let Some(raw) = value else { return Ok(Cow::Borrowed(empty_object())) };
    if !raw.get().starts_with('{') {
        return Err(invalid(field.name(), "is not an object"));
    }
    storable::check(raw.get()).map_err(|what| unstorable(field.name(), what))?;
    Ok(Cow::Borrowed(raw))
}

/// `{}`: the `state` or `payload` of an event that has none.
#[must_use]
pub fn empty_object() -> &'static RawValue {
    #[allow(clippy::expect_used, clippy::missing_panics_doc)] // "{}" is JSON
    serde_json::from_str("{}").expect("an empty object is JSON")
}

fn created_at(value: Option<&RawValue>, message: &ReceivedMessage<'_>) -> Result<DateTime<Utc>, Rejection> {
    if let Some(text) = text(Field::CreatedAt, value)? {
        return DateTime::parse_from_rfc3339(&text)
            .map(|at| at.with_timezone(&Utc))
            .map_err(|_| invalid(Field::CreatedAt.name(), "is not an RFC 3339 time with its offset"));
    }
    match message.timestamp {
        None => Ok(message.received_at),
        Some(seconds) => i64::try_from(seconds)
            .ok()
            .and_then(|seconds| DateTime::from_timestamp(seconds, 0))
            .ok_or_else(|| invalid("timestamp", "is out of range (it counts seconds since 1970)")),
    }
}

#[cfg(test)]
#[path = "decode_tests.rs"]
mod tests;
