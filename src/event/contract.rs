//! The machine-readable contract: a JSON Schema of each event type, and an `AsyncAPI` document, generated from the types.
//!
//! The documents are checked in under `docs/contract`; a test fails if they are out of date.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::envelope::Event;
use super::event_type::{EventType, Payload, PayloadFunction};
use super::headers;
use super::payload::Object;
use super::state::WorkflowState;

/// Default of `amqp.exchange`.
const EXCHANGE: &str = "cns.events";

/// Returns every document, by file name.
#[must_use]
pub fn documents() -> Vec<(String, Value)> {
    let mut documents = vec![
        ("asyncapi.json".to_owned(), asyncapi()),
        ("event.schema.json".to_owned(), event_schema(None)),
        ("workflow_state.schema.json".to_owned(), schema_of::<WorkflowState<'_>>().to_value()),
    ];
    documents.extend(
        EventType::ALL
            .map(|event_type| (format!("{event_type}.schema.json"), event_schema(Some(event_type)))),
    );
    documents.iter_mut().for_each(|(_, document)| plain_words(document));
    documents
}

/// Removes the links from descriptions, which are doc comments of the types.
fn plain_words(document: &mut Value) {
    match document {
        Value::String(text) => *text = text.replace("[`", "`").replace("`]", "`"),
        Value::Array(values) => values.iter_mut().for_each(plain_words),
        Value::Object(values) => values.values_mut().for_each(plain_words),
        _ => {}
    }
}

/// Returns the JSON Schema (2020-12) of a message's body, for one event type or for any.
///
/// A valid body is stored without a schema violation. Fields that an AMQP property can replace (`message_id`, `type`,
/// `timestamp`) are not required; `null` is allowed for absent fields. The worker corrects, and counts, a `source` that the
/// schema does not allow.
#[must_use]
pub fn event_schema(event_type: Option<EventType>) -> Value {
    let mut schema = schema_of::<Event<'_, Object<'_>>>().to_value();
    if let Some(fields) = schema["properties"].as_object_mut() {
        for (_, field) in fields.iter_mut().filter(|(name, _)| *name != "bom_id") {
            if !field["type"].is_array() {
                let plain = std::mem::take(field);
                *field = json!({ "anyOf": [plain, { "type": "null" }] });
            }
        }
        if let Some(event_type) = event_type {
            fields.insert(
                "event_type".to_owned(),
                json!({ "const": event_type.name(), "description": "Type of the event." }),
            );
            fields.insert("payload".to_owned(), payload_schema(event_type));
        }
    }
    let required =
        if event_type.is_some() { json!(["bom_id", "event_type", "payload"]) } else { json!(["bom_id"]) };
    schema["required"] = required;
    let named = |field: &str| json!({ "required": [field], "properties": { field: { "type": "string", "minLength": 1 } } });
    schema["anyOf"] = json!([named("tenant_id"), named("organization_id")]);
    schema["title"] = json!(event_type.map_or("event", EventType::name));
    schema["description"] = json!("The body of a message: one event.");
    schema
}

/// Returns the JSON Schema of the payload of a type. Further fields are allowed.
#[must_use]
pub fn payload_schema(event_type: EventType) -> Value {
    let mut schema = event_type.with_payload_type(PayloadSchema);
    for word in ["$schema", "title"] {
        schema.remove(word);
    }
    schema.to_value()
}

struct PayloadSchema;

impl<'a> PayloadFunction<'a> for PayloadSchema {
    type Output = Schema;

    fn call<T: Payload + Deserialize<'a> + JsonSchema>(self) -> Schema {
        schema_of::<T>()
    }
}

fn schema_of<T: JsonSchema>() -> Schema {
    SchemaSettings::draft2020_12()
        .with(|settings| settings.inline_subschemas = true)
        .into_generator()
        .into_root_schema_for::<T>()
}

/// Returns the `AsyncAPI` 3.1 document: the messages that producers send.
#[must_use]
pub fn asyncapi() -> Value {
    let (mut channels, mut operations, mut messages) = (Map::new(), Map::new(), Map::new());
    for event_type in EventType::ALL {
        channels.insert(event_type.name().to_owned(), channel(event_type));
        operations.insert(format!("log_{event_type}"), operation(event_type));
        messages.insert(event_type.name().to_owned(), message(event_type));
    }
    json!({
        "asyncapi": "3.1.0",
        "info": {
            "title": "CNS events",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Events that workflows publish while they process a bill of materials. Each is stored once. Events of any other type with a routing key under `cns.#` are stored as well.",
            "license": { "name": "MIT OR Apache-2.0" },
        },
        "defaultContentType": "application/json",
        "servers": {
            "rabbitmq": { "host": "127.0.0.1:5672", "protocol": "amqp", "protocolVersion": "0-9-1" },
        },
        "channels": channels,
        "operations": operations,
        "components": { "messages": messages },
    })
}

fn channel(event_type: EventType) -> Value {
    let address = event_type.key_pattern();
    let mut channel = json!({
        "address": address,
        "messages": { event_type.name(): { "$ref": format!("#/components/messages/{event_type}") } },
        "bindings": { "amqp": {
            "is": "routingKey",
            "exchange": { "name": EXCHANGE, "type": "topic", "durable": true, "autoDelete": false },
            "bindingVersion": "0.3.0",
        } },
    });
    if let Some((_, parameter)) = address.split_once('{') {
        let name = parameter.split('}').next().unwrap_or_default();
        channel["parameters"] = json!({ name: { "description": format!("`payload.{name}`") } });
    }
    channel
}

fn operation(event_type: EventType) -> Value {
    json!({
        "action": "send",
        "channel": { "$ref": format!("#/channels/{event_type}") },
        "messages": [{ "$ref": format!("#/channels/{event_type}/messages/{event_type}") }],
        "bindings": { "amqp": {
            "deliveryMode": 2, "mandatory": true, "timestamp": true, "priority": event_type.priority(event_type.key_pattern()), "bindingVersion": "0.3.0",
        } },
    })
}

fn message(event_type: EventType) -> Value {
    let mut body = event_schema(Some(event_type));
    if let Some(body) = body.as_object_mut() {
        body.remove("$schema");
    }
    json!({
        "name": event_type.name(),
        "contentType": "application/json",
        "headers": { "type": "object", "properties": {
            headers::TRACEPARENT: { "type": "string", "description": "Trace that the event belongs to (W3C Trace Context)." },
        } },
        "payload": body,
        "bindings": { "amqp": { "messageType": event_type.name(), "bindingVersion": "0.3.0" } },
    })
}

#[cfg(test)]
#[path = "contract_tests.rs"]
mod tests;
