//! The contract for machines: a JSON Schema of each event type, and an `AsyncAPI` document, made from the types.
//!
//! The documents are checked in under `docs/contract`; a test says when they are not current.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema};
use serde_json::{Map, Value, json};

use super::event_type::EventType;
use super::payload::Object;
use super::schema::with_type;
use super::{Event, WorkflowState};

/// The exchange that producers publish to, unless it is configured otherwise.
const EXCHANGE: &str = "cns.events";

/// Every document, by its file's name.
#[must_use]
pub fn documents() -> Vec<(String, Value)> {
    let mut documents = vec![
        ("asyncapi.json".to_owned(), asyncapi()),
        ("event.schema.json".to_owned(), event_schema(None)),
        ("workflow_state.schema.json".to_owned(), schema_of::<WorkflowState<'_>>().to_value()),
    ];
    documents.extend(EventType::ALL.map(|kind| (format!("{kind}.schema.json"), event_schema(Some(kind)))));
    documents.iter_mut().for_each(|(_, document)| plain_words(document));
    documents
}

/// Descriptions come from the types' documentation, whose links mean nothing here.
fn plain_words(document: &mut Value) {
    match document {
        Value::String(text) => *text = text.replace("[`", "`").replace("`]", "`"),
        Value::Array(values) => values.iter_mut().for_each(plain_words),
        Value::Object(values) => values.values_mut().for_each(plain_words),
        _ => {}
    }
}

/// The JSON Schema (2020-12) of a message's body: of a type, or of any type.
///
/// It describes what is stored without a dead letter and without a schema violation. What the AMQP properties may say in
/// its place (`message_id`, `type`, `timestamp`) is not required in it; a `null` is as good as an absent field. A `source`
/// that it does not allow is corrected, and counted, all the same.
#[must_use]
pub fn event_schema(kind: Option<EventType>) -> Value {
    let mut schema = schema_of::<Event<'_, Object<'_>>>().to_value();
    if let Some(fields) = schema["properties"].as_object_mut() {
        for (_, field) in fields.iter_mut().filter(|(name, _)| *name != "bom_id") {
            if !field["type"].is_array() {
                let plain = std::mem::take(field);
                *field = json!({ "anyOf": [plain, { "type": "null" }] });
            }
        }
        if let Some(kind) = kind {
            fields
                .insert("event_type".to_owned(), json!({ "const": kind.name(), "description": "The type." }));
            fields.insert("payload".to_owned(), payload_schema(kind));
        }
    }
    let required =
        if kind.is_some() { json!(["bom_id", "event_type", "payload"]) } else { json!(["bom_id"]) };
    schema["required"] = required;
    let named = |field: &str| json!({ "required": [field], "properties": { field: { "type": "string", "minLength": 1 } } });
    schema["anyOf"] = json!([named("tenant_id"), named("organization_id")]);
    schema["title"] = json!(kind.map_or("event", EventType::name));
    schema["description"] = json!("The body of a message: one event.");
    schema
}

/// The JSON Schema of the payload of a type. More fields than it names are welcome.
#[must_use]
pub fn payload_schema(kind: EventType) -> Value {
    let mut schema = with_type!(kind, (), schema_for);
    for word in ["$schema", "title"] {
        schema.remove(word);
    }
    schema.to_value()
}

fn schema_for<T: JsonSchema>((): ()) -> Schema {
    schema_of::<T>()
}

fn schema_of<T: JsonSchema>() -> Schema {
    SchemaSettings::draft2020_12()
        .with(|settings| settings.inline_subschemas = true)
        .into_generator()
        .into_root_schema_for::<T>()
}

/// The routing key of a type, with what an event's payload fills in as a parameter.
const fn address(kind: EventType) -> &'static str {
    match kind {
        EventType::ProcessingStarted => "cns.processing.started",
        EventType::StageStarted => "cns.stage.{stage}.started",
        EventType::StageCompleted => "cns.stage.{stage}.completed",
        EventType::EnrichmentProgress => "cns.enrichment.progress",
        EventType::RiskAlert => "cns.risk.alert.{severity}",
        EventType::WorkflowPaused => "cns.workflow.paused",
        EventType::WorkflowResumed => "cns.workflow.resumed",
        EventType::Error => "cns.error",
        EventType::ComponentMatched => "cns.component.matched",
        EventType::ApiCallMade => "cns.api.call",
        EventType::CacheHit => "cns.cache.hit",
        EventType::CacheMiss => "cns.cache.miss",
    }
}

/// The `AsyncAPI` 3.1 document: what producers send.
#[must_use]
pub fn asyncapi() -> Value {
    let (mut channels, mut operations, mut messages) = (Map::new(), Map::new(), Map::new());
    for kind in EventType::ALL {
        channels.insert(kind.name().to_owned(), channel(kind));
        operations.insert(format!("log_{kind}"), operation(kind));
        messages.insert(kind.name().to_owned(), message(kind));
    }
    json!({
        "asyncapi": "3.1.0",
        "info": {
            "title": "CNS events",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What happens to a bill of materials, published by workflows and stored once each. Any other event type under `cns.#` is stored as well.",
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

fn channel(kind: EventType) -> Value {
    let address = address(kind);
    let mut channel = json!({
        "address": address,
        "messages": { kind.name(): { "$ref": format!("#/components/messages/{kind}") } },
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

fn operation(kind: EventType) -> Value {
    json!({
        "action": "send",
        "channel": { "$ref": format!("#/channels/{kind}") },
        "messages": [{ "$ref": format!("#/channels/{kind}/messages/{kind}") }],
        "bindings": { "amqp": {
            "deliveryMode": 2, "mandatory": true, "timestamp": true, "priority": kind.priority(address(kind)), "bindingVersion": "0.3.0",
        } },
    })
}

fn message(kind: EventType) -> Value {
    let mut body = event_schema(Some(kind));
    if let Some(body) = body.as_object_mut() {
        body.remove("$schema");
    }
    json!({
        "name": kind.name(),
        "contentType": "application/json",
        "headers": { "type": "object", "properties": {
            "traceparent": { "type": "string", "description": "The trace it belongs to (W3C Trace Context)." },
        } },
        "payload": body,
        "bindings": { "amqp": { "messageType": kind.name(), "bindingVersion": "0.3.0" } },
    })
}

#[cfg(test)]
#[path = "contract_tests.rs"]
mod tests;
