//! Cost of one call to the caller, allocations included, while the broker is unreachable: median and spread by divan.
//!
//!     cargo bench --bench call
//!
//! Needs no server. `make bench` has the tails, and the same beside a busy broker.

#![allow(clippy::unwrap_used, missing_docs)]

use std::time::Duration;

use cns_events::event::payload::MatchStatus;
use cns_events::event::{Source, WorkflowState};
use cns_events::publisher::{Publisher, PublisherConfig, WorkflowPublisher};
use divan::{AllocProfiler, Bencher};
use serde_json::json;
use uuid::Uuid;

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

/// A workflow whose broker is a port that nobody listens on.
fn workflow() -> WorkflowPublisher {
    let config =
        PublisherConfig::new("amqp://guest:guest@127.0.0.1:9/%2f", "bench").buffer(10_000_000, 8 << 30);
    let publisher = Publisher::start(config).unwrap();
    let mut workflow =
        publisher.workflow(Uuid::now_v7(), "organization-42", "enrich-bom-42").source(Source::Staff);
    workflow.set_state(&WorkflowState::running(500, 250, 3));
    workflow
}

#[divan::bench(sample_count = 1000, sample_size = 100)]
fn log_cache_hit(bencher: Bencher<'_, '_>) {
    let workflow = workflow();
    bencher.bench_local(|| drop(workflow.log_cache_hit("parts", "GRM188R71C104KA01D")));
}

#[divan::bench(sample_count = 1000, sample_size = 100)]
fn log_stage_completed(bencher: Bencher<'_, '_>) {
    let workflow = workflow();
    bencher.bench_local(|| drop(workflow.log_stage_completed("enrichment", Duration::from_millis(4200))));
}

#[divan::bench(sample_count = 1000, sample_size = 100)]
fn log_enrichment_progress(bencher: Bencher<'_, '_>) {
    let workflow = workflow();
    bencher.bench_local(|| {
        workflow
            .log_enrichment_progress("GRM188R71C104KA01D", MatchStatus::Matched)
            .confidence(0.973)
            .supplier("DigiKey");
    });
}

#[divan::bench(sample_count = 1000, sample_size = 100)]
fn log_any(bencher: Bencher<'_, '_>) {
    let workflow = workflow();
    let payload = json!({ "mpn": "GRM188R71C104KA01D", "price": 0.0123 });
    bencher.bench_local(|| drop(workflow.log("price_changed", &payload)));
}
