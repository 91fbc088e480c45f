//! An HTTP service that logs an event for each request, and never waits for it.
//!
//!     cargo run --example axum_handler -- 127.0.0.1:8000
//!     curl -X POST http://127.0.0.1:8000/boms/6f9619ff-8b86-4d01-b42d-00cf4fc964ff/pause
//!
//! Wants AMQP_URL.

#![allow(clippy::print_stdout)]

use std::error::Error;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::post;
use cns_events::publisher::{Publisher, PublisherConfig};
use tokio::signal::unix::{SignalKind, signal};
use uuid::Uuid;

async fn pause(State(publisher): State<Publisher>, Path(bom_id): Path<Uuid>) -> StatusCode {
    let workflow = publisher.workflow(bom_id, "org-123", format!("enrich-bom-{bom_id}"));
    workflow.log_workflow_paused("asked for by its owner").user(Uuid::nil());
    StatusCode::ACCEPTED
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut config = PublisherConfig::new(std::env::var("AMQP_URL")?, "example-axum");
    if let Ok(exchange) = std::env::var("CNS_EVENTS_EXCHANGE") {
        config = config.exchange(exchange);
    }
    let publisher = Publisher::start(config)?;

    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:8000".into());
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!("listening on {}", listener.local_addr()?);
    let service = Router::new().route("/boms/{bom_id}/pause", post(pause)).with_state(publisher.clone());
    let mut terminate = signal(SignalKind::terminate())?;
    axum::serve(listener, service)
        .with_graceful_shutdown(async move {
            terminate.recv().await;
        })
        .await?;

    let closed = publisher.close(Duration::from_secs(10)).await;
    println!("confirmed: {}, left: {}", closed.confirmed, closed.left);
    Ok(())
}
