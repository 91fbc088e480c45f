//! Cost of the worker's pure parts for one message: reading it, and the checks within, with their allocations (divan).
//!
//!     cargo bench --bench decode
//!
//! Needs no server. Where a processor's instructions are wanted, which repeat from run to run:
//! `valgrind --tool=callgrind target/release/deps/decode-… --bench`.

#![allow(clippy::unwrap_used, missing_docs)]

use chrono::{DateTime, Utc};
use cns_events::event::{EventType, PayloadPolicy, ReceivedMessage, Rules, decode, schema, storable};
use divan::{AllocProfiler, Bencher, black_box};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

/// As a busy evening has it: 762 bytes.
const PROGRESS: &str = r#"{"event_id":"019a0c5e-7b1c-7d3e-9f60-3a1f5b0c7d21","event_type":"enrichment_progress","bom_id":"5f0e4c8a-3d19-5b7c-8a51-6c2f5d7e9b10","tenant_id":"0a9d3c5b-7e21-5f48-9b36-1d4e8f7a2c60","organization_id":"0a9d3c5b-7e21-5f48-9b36-1d4e8f7a2c60","source":"customer","workflow_id":"enrich-bom-5f0e4c8a-3d19-5b7c-8a51-6c2f5d7e9b10","state":{"status":"running","current_stage":"enrichment","total_items":500,"completed_items":250,"failed_items":3,"percent":50},"payload":{"mpn":"C04711-55","status":"matched","confidence":0.973,"supplier":"DigiKey","match_details":{"manufacturer":"Maker 211","description":"Capacitor 4711 nF 49 V X7R, automotive grade","lifecycle":"active","stock":815321,"price":"42.0815","currency":"EUR"}},"created_at":"2026-01-02T03:04:05.678Z"}"#;

/// The least that an event may have.
const SMALL: &str = r#"{"event_type":"cache_hit","bom_id":"5f0e4c8a-3d19-5b7c-8a51-6c2f5d7e9b10","organization_id":"acme","source":"staff","payload":{"cache":"parts","key":"LM358"}}"#;

fn main() {
    divan::main();
}

fn payload(body: &str) -> &str {
    let (_, payload) = body.split_once(r#""payload":"#).unwrap();
    payload.split_once(r#","created_at""#).map_or(&payload[..payload.len() - 1], |(payload, _)| payload)
}

fn incoming(body: &str) -> ReceivedMessage<'_> {
    ReceivedMessage {
        body: body.as_bytes(),
        routing_key: "cns.enrichment.progress",
        message_id: Some("019a0c5e-7b1c-7d3e-9f60-3a1f5b0c7d21"),
        event_type: None,
        timestamp: None,
        received_at: DateTime::<Utc>::UNIX_EPOCH,
    }
}

fn rules(payload: PayloadPolicy) -> Rules {
    Rules { max_message_bytes: 1 << 20, payload }
}

#[divan::bench(args = [PROGRESS, SMALL])]
fn whole(bencher: Bencher<'_, '_>, body: &str) {
    let rules = rules(PayloadPolicy::Warn);
    bencher.bench(|| decode(black_box(&incoming(body)), &rules).unwrap().ignored_fields);
}

#[divan::bench]
fn without_schema(bencher: Bencher<'_, '_>) {
    let rules = rules(PayloadPolicy::Off);
    bencher.bench(|| decode(black_box(&incoming(PROGRESS)), &rules).unwrap().ignored_fields);
}

#[divan::bench]
fn schema_of_the_payload(bencher: Bencher<'_, '_>) {
    let payload = payload(PROGRESS);
    bencher.bench(|| schema::check(EventType::EnrichmentProgress, black_box(payload)));
}

/// JSON that jsonb can hold, without suspicious bytes, so that no token is read.
#[divan::bench]
fn sieve(bencher: Bencher<'_, '_>) {
    let payload = payload(PROGRESS);
    bencher.bench(|| storable(black_box(payload)));
}

/// The same with one escape, which takes reading every token.
#[divan::bench]
fn sieve_then_tokens(bencher: Bencher<'_, '_>) {
    let escaped = payload(PROGRESS).replace("Maker", "M\\u00fcller");
    bencher.bench(|| storable(black_box(&escaped)));
}
