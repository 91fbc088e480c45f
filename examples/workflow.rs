//! A workflow's whole life, as its developer writes it.
//!
//!     cargo run --no-default-features --features publisher --example workflow
//!
//! Wants AMQP_URL, and a worker that stores what it publishes (`make run`).

#![allow(clippy::print_stdout)]

use std::error::Error;
use std::time::{Duration, Instant};

use cns_events::event::WorkflowState;
use cns_events::event::payload::MatchStatus;
use cns_events::publisher::{Publisher, PublisherConfig, WorkflowPublisher};
use serde_json::json;
use uuid::Uuid;

/// What a supplier says about a part: how sure it is, and its risk score.
type Answer = Result<Option<(f64, f64)>, &'static str>;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut config = PublisherConfig::new(std::env::var("AMQP_URL")?, "example-workflow");
    if let Ok(exchange) = std::env::var("CNS_EVENTS_EXCHANGE") {
        config = config.exchange(exchange);
    }
    // Once for each process; clones are cheap.
    let publisher = Publisher::start(config)?;

    let bom_id = Uuid::now_v7();
    let workflow = publisher.workflow(bom_id, "org-123", format!("enrich-bom-{bom_id}"));
    // The id of the workflow's run, which a retried step does not change.
    let run = Uuid::now_v7();
    enrich(run, workflow, &["LM358DR", "NE555P", "XYZ", "BC547"]).await;

    // Once, when the process ends.
    let closed = publisher.close(Duration::from_secs(10)).await;
    println!("BOM {bom_id}: confirmed: {}, left: {}", closed.confirmed, closed.left);
    if closed.left > 0 { Err("not every event was confirmed".into()) } else { Ok(()) }
}

/// Nothing here waits for an event, or handles an error of one.
async fn enrich(run: Uuid, mut workflow: WorkflowPublisher, parts: &[&str]) {
    let total = parts.len() as u64;
    let (mut completed, mut failed) = (0, 0);
    workflow.log_processing_started(total).message("board.csv");
    workflow.set_state(&WorkflowState::running(total, completed, failed));
    workflow.log_stage_started("enrichment");
    let started = Instant::now();
    for (line, part) in parts.iter().enumerate() {
        let asked = Instant::now();
        let answer = ask_supplier(part).await;
        workflow.log_api_call("DigiKey", "/parts/search").duration(asked.elapsed());
        let progress = match answer {
            Ok(Some((confidence, risk))) => {
                completed += 1;
                if risk >= 60.0 {
                    workflow.log_risk_alert(*part, risk).risk_factors(&["single source"]);
                }
                workflow
                    .log_enrichment_progress(*part, MatchStatus::Matched)
                    .confidence(confidence)
                    .supplier("DigiKey")
            }
            Ok(None) => {
                failed += 1;
                workflow.log_enrichment_progress(*part, MatchStatus::NoMatch)
            }
            Err(why) => {
                failed += 1;
                workflow.log_error(why).code("SUPPLIER_ERROR").details(&json!({ "mpn": part }));
                workflow.log_enrichment_progress(*part, MatchStatus::Error)
            }
        };
        // A retry of this step would publish the same key, and be stored once.
        progress
            .event_id(format!("{run}/{line}/progress"))
            .state(&WorkflowState::running(total, completed, failed));
        workflow.set_state(&WorkflowState::running(total, completed, failed));
    }
    workflow.set_state(&WorkflowState {
        status: "completed".into(),
        ..WorkflowState::running(total, completed, failed)
    });
    workflow.log_stage_completed("enrichment", started.elapsed()).metrics(&json!({ "matched": completed }));
}

async fn ask_supplier(part: &str) -> Answer {
    tokio::time::sleep(Duration::from_millis(2)).await;
    match part {
        "XYZ" => Ok(None),
        "BC547" => Err("the supplier does not answer"),
        _ => Ok(Some((0.97, if part == "NE555P" { 84.0 } else { 12.0 }))),
    }
}
