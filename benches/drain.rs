//! How fast a worker drains a prefilled queue, beside COPY of the same rows from two connections into the same
//! table, in the same run.
//!
//!     make drain                                  # 100,000 events, three rounds, a quorum queue
//!     cargo bench --bench drain -- --events 20000 --rounds 1 --queue classic --json
//!
//! Wants AMQP_URL and DATABASE_URL (`make -s env`) and a login that may create databases. The rows are those of
//! the contract's table with all its indexes; COPY is text in chunks of 1,000 rows, each its own transaction,
//! with UUIDv7 ids supplied. The worker runs as its own process, with its default configuration. Its time is
//! taken from the database's commit timestamps, first commit to last.

#![allow(unreachable_pub, clippy::print_stdout, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod stand;

use std::time::Instant;

use bytes::Bytes;
use clap::Parser;
use futures_util::SinkExt;
use lapin::{Connection, ConnectionProperties};
use serde_json::json;
use stand::{Event, Queue, Stand, commits, connect, figure, median};
use tokio_postgres::Client;

/// Drain speed of a worker, beside COPY
#[derive(Parser)]
struct Options {
    /// Events in the queue
    #[arg(long, default_value_t = 100_000)]
    events: usize,
    /// Rounds; medians are printed
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// The kind of queue
    #[arg(long, value_enum, default_value_t = Queue::Quorum)]
    queue: Queue,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// What `cargo bench` adds
    #[arg(long, hide = true)]
    bench: bool,
}

const CHUNK: usize = 1000;

/// What one round measured.
struct Round {
    copy_per_s: f64,
    drain_per_s: f64,
    cpu_us: f64,
    peak_mib: f64,
    rows_per_batch: f64,
}

#[tokio::main]
async fn main() {
    let options = Options::parse();
    let stand = Stand::build("drain").await;
    let mut rounds = Vec::new();
    for number in 1..=options.rounds {
        let events: Vec<Event> = (0..options.events).map(Event::number).collect();
        let bytes = events.iter().map(|event| event.body().len()).sum::<usize>() / events.len();
        // Alternating, so that a machine whose speed drifts treats both alike.
        let copy_per_s = copy(&stand, &events).await;
        let round = drain(&stand, &events, options.queue, copy_per_s).await;
        if !options.json {
            println!(
                "round {number}: {bytes} bytes an event; COPY {:>6.0}/s, drain {:>6.0}/s = {:.2} of COPY; worker {:.1} µs CPU an event, {:.0} MiB peak, {:.0} rows a batch",
                round.copy_per_s,
                round.drain_per_s,
                round.drain_per_s / round.copy_per_s,
                round.cpu_us,
                round.peak_mib,
                round.rows_per_batch
            );
        }
        rounds.push(round);
    }
    stand.tear_down().await;
    let median = |value: fn(&Round) -> f64| median(rounds.iter().map(value).collect());
    let ratio = median(|round| round.drain_per_s / round.copy_per_s);
    if options.json {
        println!(
            "{}",
            json!({
                "events": options.events, "rounds": options.rounds,
                "copy_per_second": median(|round| round.copy_per_s), "drain_per_second": median(|round| round.drain_per_s),
                "drain_to_copy": ratio, "worker_cpu_microseconds_per_event": median(|round| round.cpu_us),
                "worker_peak_mib": median(|round| round.peak_mib), "rows_per_batch": median(|round| round.rows_per_batch),
            })
        );
    } else {
        println!(
            "median of {}: the worker drains at {ratio:.2} of COPY from two connections",
            options.rounds
        );
    }
}

/// COPY from two connections; rows a second.
async fn copy(stand: &Stand, events: &[Event]) -> f64 {
    stand.empty().await;
    let chunks: Vec<Bytes> = events
        .chunks(CHUNK)
        .map(|chunk| {
            let mut text = String::new();
            chunk.iter().for_each(|event| event.line(&mut text));
            Bytes::from(text)
        })
        .collect();
    let (left, right) = chunks.split_at(chunks.len() / 2);
    let clients = (connect(&stand.database).await, connect(&stand.database).await);
    let started = Instant::now();
    tokio::join!(copy_chunks(&clients.0, left), copy_chunks(&clients.1, right));
    events.len() as f64 / started.elapsed().as_secs_f64()
}

async fn drain(stand: &Stand, events: &[Event], queue: Queue, copy_per_s: f64) -> Round {
    stand.empty().await;
    stand.declare(queue).await;
    let connection = Connection::connect(&stand.amqp, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    stand.fill(&channel, events).await;

    let mut worker = stand.worker(queue, 1, &stand.database);
    let total = events.len() as f64;
    worker
        .wait_for("/metrics", |text| {
            figure(text, r#"cns_events_stored_total{event_type="enrichment_progress"}"#) >= total
        })
        .await;
    let text = worker.get("/metrics").unwrap();
    let (cpu_us, peak_mib) = worker.usage();
    worker.stop();
    let rows_per_batch =
        figure(&text, "cns_events_batch_rows_sum") / figure(&text, "cns_events_batch_rows_count");
    let drain_per_s = commits(&connect(&stand.database).await).await;
    stand.remove_queues(&connection).await;
    Round { copy_per_s, drain_per_s, cpu_us: cpu_us / total, peak_mib, rows_per_batch }
}

async fn copy_chunks(client: &Client, chunks: &[Bytes]) {
    for chunk in chunks {
        let sink = client
            .copy_in(
                "copy enrichment_events (id, event_id, event_type, routing_key, bom_id, tenant_id, organization_id, \
                 project_id, user_id, source, workflow_id, state, payload, created_at) from stdin",
            )
            .await
            .unwrap();
        let mut sink = std::pin::pin!(sink);
        sink.send(chunk.clone()).await.unwrap();
        sink.finish().await.unwrap();
    }
}
