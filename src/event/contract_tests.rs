use super::*;
use crate::event::{PayloadPolicy, ReceivedMessage, Rules, decode, schema};

/// Compares docs/contract with the code. `CNS_EVENTS_WRITE_CONTRACT=1` writes the documents.
#[test]
fn the_documents_are_up_to_date() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/contract");
    for (name, document) in documents() {
        let (path, text) = (folder.join(&name), format!("{document:#}\n"));
        if std::env::var_os("CNS_EVENTS_WRITE_CONTRACT").is_some() {
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(&path, &text).unwrap();
        }
        let current = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(current == text, "docs/contract/{name} is out of date: run `make contract`");
    }
}

#[test]
fn key_patterns_agree_with_the_routing_keys_of_payloads() {
    for event_type in EventType::ALL {
        let payload = match event_type {
            EventType::StageStarted => r#"{"stage":"{stage}"}"#,
            EventType::StageCompleted => r#"{"stage":"{stage}","duration_ms":1}"#,
            EventType::RiskAlert => r#"{"component_id":"c","risk_score":1,"severity":"medium"}"#,
            EventType::ProcessingStarted => r#"{"total_items":1}"#,
            EventType::EnrichmentProgress => r#"{"mpn":"x","status":"cached"}"#,
            EventType::WorkflowPaused | EventType::WorkflowResumed => r#"{"reason":"x"}"#,
            EventType::Error => r#"{"error_message":"x"}"#,
            EventType::ComponentMatched => r#"{"mpn":"x","matched_mpn":"y"}"#,
            EventType::ApiCallMade => r#"{"supplier":"x","endpoint":"y"}"#,
            EventType::CacheHit | EventType::CacheMiss => r#"{"cache":"x","key":"y"}"#,
        };
        assert_eq!(
            event_type.key_pattern().replace("{severity}", "medium"),
            schema::routing_key(event_type.name(), payload)
        );
    }
}

/// A JSON Schema and the worker agree about each of these changes to a valid event.
#[test]
fn the_json_schemas_agree_with_the_worker() {
    let good = json!({
        "event_id": "e", "event_type": "enrichment_progress", "bom_id": "6f9619ff-8b86-4d01-b42d-00cf4fc964ff",
        "organization_id": "org", "source": "staff", "workflow_id": "w", "state": { "percent": 1 },
        "payload": { "mpn": "x", "status": "matched", "confidence": 0.5, "supplier": null, "more": [1] },
        "created_at": "2026-01-02T03:04:05+01:00",
    });
    let long = |length: usize| json!("x".repeat(length));
    let changes = [
        ("event_id", json!(1)),
        ("event_id", json!("")),
        ("event_id", long(255)),
        ("event_id", long(256)),
        ("event_type", json!("cache_hit")),
        ("bom_id", json!(null)),
        ("bom_id", json!("x")),
        ("tenant_id", json!("x")),
        ("tenant_id", json!(null)),
        ("organization_id", json!(null)),
        ("organization_id", json!("")),
        ("project_id", json!("x")),
        ("project_id", json!("6f9619ff-8b86-4d01-b42d-00cf4fc964ff")),
        ("user_id", json!(null)),
        ("user_id", json!(5)),
        ("workflow_id", long(255)),
        ("workflow_id", long(256)),
        ("workflow_id", json!("")),
        ("state", json!([])),
        ("state", json!(null)),
        ("state", json!({})),
        ("payload", json!({ "mpn": "x" })),
        ("payload", json!({ "mpn": "x", "status": "maybe" })),
        ("payload", json!({ "mpn": 1, "status": "cached" })),
        ("payload", json!({ "mpn": "x", "status": "cached", "confidence": 2 })),
        ("payload", json!({ "mpn": "x", "status": "cached", "match_details": [] })),
        ("payload", json!("x")),
        ("created_at", json!("yesterday")),
        ("created_at", json!(null)),
        ("unknown", json!(1)),
    ];
    let validator = jsonschema::options()
        .should_validate_formats(true)
        .build(&event_schema(Some(EventType::EnrichmentProgress)))
        .unwrap();
    let rules = Rules { max_message_bytes: 1 << 20, payload: PayloadPolicy::Reject };
    let worker_stores = |event: &Value| {
        let body = event.to_string();
        let incoming = ReceivedMessage {
            body: body.as_bytes(),
            routing_key: "cns.x",
            message_id: Some("m"),
            event_type: None,
            timestamp: None,
            received_at: chrono::Utc::now(),
        };
        decode(&incoming, &rules).is_ok_and(|decoded| decoded.event.event_type == "enrichment_progress")
    };
    assert!(worker_stores(&good) && validator.is_valid(&good));
    for (field, value) in changes {
        let mut event = good.clone();
        event[field] = value;
        assert_eq!(validator.is_valid(&event), worker_stores(&event), "{field}: {}", event[field]);
    }
}

/// Each schema is valid, and requires fields that the worker requires too.
#[test]
fn every_schema_is_valid_and_requires_fields() {
    for event_type in EventType::ALL {
        jsonschema::meta::validate(&event_schema(Some(event_type))).unwrap();
        assert!(!payload_schema(event_type)["required"].as_array().unwrap().is_empty(), "{event_type}");
        let validator = jsonschema::validator_for(&payload_schema(event_type)).unwrap();
        assert!(!validator.is_valid(&json!({})), "{event_type}");
        assert!(schema::check(event_type, "{}").is_err(), "{event_type}");
    }
}
