//! The top level of a message body: each field's value as a slice of the body.

use std::borrow::Cow;
use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::limits::MAX_TYPE_CHARS;
use super::rejection::{Reason, Rejection};
use crate::named::named_enum;

named_enum! {
    /// A top-level field of the contract.
    #[derive(Clone, Copy)]
    pub(super) enum Field {
        EventId = "event_id",
        EventType = "event_type",
        BomId = "bom_id",
        TenantId = "tenant_id",
        OrganizationId = "organization_id",
        ProjectId = "project_id",
        UserId = "user_id",
        Source = "source",
        WorkflowId = "workflow_id",
        State = "state",
        Payload = "payload",
        CreatedAt = "created_at",
    }
}

/// The values of the top level.
#[derive(Default)]
pub(super) struct Fields<'a> {
    values: [Option<&'a RawValue>; Field::ALL.len()],
    /// Number of the fields that the contract does not define.
    pub(super) ignored: u64,
    unknown: HashSet<Cow<'a, str>>,
    duplicate: Option<String>,
}

impl<'a> Fields<'a> {
    /// Reads the fields of a body.
    ///
    /// # Errors
    /// A body that is not one JSON object, or that has a key twice.
    pub(super) fn read(body: &'a [u8]) -> Result<Self, Rejection> {
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
                let mut rejection =
                    Rejection::new(Reason::InvalidField, "a key occurs more than once in the body");
                rejection.field = Some(Cow::Owned(key));
                Err(rejection)
            }
        }
    }

    /// Returns the value of a field; `null` counts as absent.
    pub(super) fn get(&self, field: Field) -> Option<&'a RawValue> {
        self.values[field as usize].filter(|value| value.get() != "null")
    }
}

/// Returns the description of a parse error. `serde_json` quotes the value in a type error, so that this one is reworded.
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
            let known = Field::from_name(&key);
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
