//! Cost of publishing for the caller, and the speed of one publisher, beside bare lapin with the same confirms.
//!
//! Three things, each on a quorum queue of its own:
//!
//! - **calls**: the time of one `log_enrichment_progress` with a state, in nanoseconds as the caller sees it, in a tight
//!   loop and at 10,000 calls a second; with the broker there, with it away, and with it away and a spool.
//! - **confirmed**: events a second from the first call to the last confirm, of the publisher and of bare lapin publishing the
//!   same bodies with the same properties and confirms, in turn.
//! - **memory**: the process's growth over a million calls with the broker away.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use cns_events::event::payload::MatchStatus;
use cns_events::event::{Workflow, WorkflowState, empty_object};
use cns_events::message::EncodedEvent;
use cns_events::publisher::{Publisher, PublisherConfig, WorkflowPublisher};
use lapin::options::{
    BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, ExchangeDeleteOptions,
    QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions, QueuePurgeOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{Channel, Connection, ConnectionProperties, ExchangeKind};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::{Options, spread};

/// Calls with the broker away, for the memory they take; a smoke run has as many as it has events.
const CALLS: usize = 1_000_000;

/// Events of each round.
const EVENTS: usize = 100_000;

/// Between two calls of a busy caller: 10,000 a second.
const PACE: Duration = Duration::from_micros(100);

/// A port without a listener.
const AWAY: &str = "amqp://guest:guest@127.0.0.1:9/%2f";

/// Figures of calls, of confirmed events and of memory.
pub async fn measure(url: &str, options: &Options) -> Value {
    let (events, calls) = if options.smoke { (options.events, options.events) } else { (EVENTS, CALLS) };
    let queue = Queue::new(url).await;
    let folder = tempfile::tempdir().unwrap();
    let config =
        |url: &str| PublisherConfig::new(url, "bench").exchange(&queue.name).buffer(200_000, 256 << 20);

    // First, while there is no freed memory that could be used again.
    let memory = memory(calls, folder.path()).await;
    let mut calls = Vec::new();
    for (name, config) in [
        ("broker there", config(url)),
        ("broker away", config(AWAY)),
        ("broker away, spool", config(AWAY).spool(folder.path())),
    ] {
        let publisher = Publisher::start(config).unwrap();
        until_settled(&publisher, name == "broker there").await;
        let workflow = workflow(&publisher);
        for (way, pace) in [("tight", Duration::ZERO), ("10,000/s", PACE)] {
            let times = timed_calls(&workflow, events, pace);
            calls.push(json!({
                "broker": name, "way": way, "calls": events, "p50_ns": at(&times, 50, 100), "p99_ns": at(&times, 99, 100),
                "p999_ns": at(&times, 999, 1000), "dropped": publisher.stats().dropped,
            }));
            if name == "broker there" {
                publisher.flush(Duration::from_secs(60)).await;
            }
        }
        drop(workflow);
        publisher.close(Duration::ZERO).await;
        queue.purge().await;
    }

    let (mut ours, mut bare) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        ours.push(publisher_speed(events, config(url)).await);
        queue.purge().await;
        bare.push(lapin_speed(events, url, &queue.name).await);
        queue.purge().await;
    }
    let ratios: Vec<f64> = ours.iter().zip(&bare).map(|(ours, bare)| ours / bare).collect();
    let confirmed = json!({
        "events": events, "rounds": options.rounds, "publisher_per_s": spread(&ours), "lapin_per_s": spread(&bare),
        "ratio": spread(&ratios),
    });
    queue.delete().await;
    json!({ "calls": calls, "confirmed": confirmed, "memory": memory })
}

fn workflow(publisher: &Publisher) -> WorkflowPublisher {
    let mut workflow = publisher.workflow(Uuid::now_v7(), "organization-42", "enrich-bom-4242");
    workflow.set_state(&WorkflowState {
        current_stage: Some("enrichment".into()),
        ..WorkflowState::running(500, 250, 3)
    });
    workflow
}

fn log(workflow: &WorkflowPublisher, details: &Value) {
    workflow
        .log_enrichment_progress("GRM188R71C104KA01D", MatchStatus::Matched)
        .confidence(0.973)
        .supplier("DigiKey")
        .match_details(details);
}

/// Text that brings the body to about 760 bytes.
fn details() -> Value {
    json!({
        "manufacturer": "Murata", "description": "Capacitor 100 nF 16 V X7R, automotive grade", "lifecycle": "active",
        "stock": 123_456, "price": "0.0123", "currency": "EUR", "datasheet": "https://example.com/GRM188R71C104KA01D.pdf",
    })
}

/// Connected, or seen that it cannot be.
async fn until_settled(publisher: &Publisher, there: bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    let settled = || match publisher.outage() {
        None => there,
        Some(why) => !there && !why.contains("not connected yet"),
    };
    while !settled() {
        assert!(Instant::now() < deadline, "the broker is not as it should be: {:?}", publisher.outage());
        tokio::time::sleep(Duration::from_millis(10)).await; // the publisher has no signal for it
    }
    // An outage that spools begins after a second.
    tokio::time::sleep(Duration::from_millis(if there { 0 } else { 1200 })).await;
}

/// Nanoseconds of each call, sorted.
fn timed_calls(workflow: &WorkflowPublisher, count: usize, pace: Duration) -> Vec<u64> {
    let details = details();
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let started = Instant::now();
        log(workflow, &details);
        times.push(u64::try_from(started.elapsed().as_nanos()).unwrap());
        // A caller that sleeps would measure how a processor wakes up.
        while started.elapsed() < pace {
            std::hint::spin_loop();
        }
    }
    times.sort_unstable();
    times
}

fn at(sorted: &[u64], part: usize, of: usize) -> u64 {
    sorted[(sorted.len() * part / of).min(sorted.len() - 1)]
}

async fn publisher_speed(events: usize, config: PublisherConfig) -> f64 {
    let publisher = Publisher::start(config).unwrap();
    until_settled(&publisher, true).await;
    let workflow = workflow(&publisher);
    let started = Instant::now();
    let logging = tokio::task::spawn_blocking(move || {
        let details = details();
        (0..events).for_each(|_| log(&workflow, &details));
    });
    logging.await.unwrap();
    let flushed = publisher.close(Duration::from_secs(300)).await;
    let took = started.elapsed();
    assert_eq!((flushed.confirmed, flushed.left), (events as u64, 0));
    events as f64 / took.as_secs_f64()
}

/// Bare lapin: one message after the other, up to 4,096 unconfirmed, as a careful producer would write it.
async fn lapin_speed(events: usize, url: &str, exchange: &str) -> f64 {
    let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    let workflow = Workflow::new(Uuid::now_v7(), "organization-42", "enrich-bom-4242");
    let details = details();
    let payload = json!({ "mpn": "GRM188R71C104KA01D", "status": "matched", "confidence": 0.973, "supplier": "DigiKey", "match_details": details });
    let state = json!({ "status": "running", "current_stage": "enrichment", "total_items": 500, "completed_items": 250, "failed_items": 3, "percent": 50 });
    let state = serde_json::value::to_raw_value(&state).unwrap();
    let rules = cns_events::event::Rules {
        max_message_bytes: 1 << 20,
        payload: cns_events::event::PayloadPolicy::Off,
    };
    let mut event = workflow.event_of_type(
        "enrichment_progress".into(),
        "cns.enrichment.progress".into(),
        &payload,
        empty_object(),
    );
    event.state = std::borrow::Cow::Borrowed(&state);
    let (message, _) = EncodedEvent::write(event, None, false, &rules).unwrap();
    let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
    let started = Instant::now();
    let mut pending = VecDeque::new();
    for _ in 0..events {
        let properties = lapin::BasicProperties::default()
            .with_content_type("application/json".into())
            .with_delivery_mode(2)
            .with_priority(message.priority)
            .with_app_id("bench".into())
            .with_message_id(message.event_id.as_str().into())
            .with_type(message.event_type.as_ref().into())
            .with_timestamp(u64::try_from(message.timestamp).unwrap());
        let key = message.routing_key.as_ref().into();
        pending.push_back(
            channel.basic_publish(exchange.into(), key, options, &message.body, properties).await.unwrap(),
        );
        if pending.len() >= 4096 {
            assert!(pending.pop_front().unwrap().await.unwrap().is_ack());
        }
    }
    for confirm in pending {
        assert!(confirm.await.unwrap().is_ack());
    }
    let took = started.elapsed();
    connection.close(200, "done".into()).await.unwrap();
    events as f64 / took.as_secs_f64()
}

/// Resident bytes of this process before and at the highest during many calls with the broker away.
async fn memory(calls: usize, folder: &std::path::Path) -> Vec<Value> {
    let mut figures = Vec::new();
    for (name, spool) in [("no spool", false), ("spool", true)] {
        let bytes = 16 << 20;
        let mut config = PublisherConfig::new(AWAY, "bench").buffer(usize::MAX, bytes);
        if spool {
            config = config.spool(folder.join("memory"));
        }
        let publisher = Publisher::start(config).unwrap();
        until_settled(&publisher, false).await;
        let workflow = workflow(&publisher);
        let details = details();
        let before = resident();
        let mut highest = before;
        for call in 0..calls {
            log(&workflow, &details);
            if call % 1000 == 0 {
                highest = highest.max(resident());
            }
        }
        let stats = publisher.stats();
        figures.push(json!({
            "with": name, "calls": calls, "buffer_bytes": bytes, "grown_bytes": highest - before,
            "accepted": stats.accepted, "spooled": stats.spooled, "dropped": stats.dropped,
        }));
        drop(workflow);
        publisher.close(Duration::ZERO).await;
    }
    figures
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// An exchange with a quorum queue behind it.
struct Queue {
    name: String,
    channel: Channel,
    _connection: Connection,
}

impl Queue {
    async fn new(url: &str) -> Queue {
        let name = format!("cns-bench-{}", Uuid::now_v7().simple());
        let connection = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        channel
            .exchange_declare(name.as_str().into(), ExchangeKind::Topic, durable, FieldTable::default())
            .await
            .unwrap();
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
        let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        channel.queue_declare(name.as_str().into(), durable, arguments).await.unwrap();
        channel
            .queue_bind(
                name.as_str().into(),
                name.as_str().into(),
                "cns.#".into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            )
            .await
            .unwrap();
        Queue { name, channel, _connection: connection }
    }

    async fn purge(&self) {
        self.channel.queue_purge(self.name.as_str().into(), QueuePurgeOptions::default()).await.unwrap();
    }

    async fn delete(&self) {
        self.channel.queue_delete(self.name.as_str().into(), QueueDeleteOptions::default()).await.unwrap();
        self.channel
            .exchange_delete(self.name.as_str().into(), ExchangeDeleteOptions::default())
            .await
            .unwrap();
    }
}
