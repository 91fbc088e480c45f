//! Speed with a large table and with a long queue.

use serde_json::{Value, json};

use crate::bench_env::{BenchEnv, BenchEvent, QueueKind};
use crate::contenders::{copy_rows, worker};
use crate::env::connect;
use crate::{Options, spread};

/// Events that are made, copied or published at once: what this benchmark has in memory.
const CHUNK: usize = 100_000;

/// Drains at each size.
const ROUNDS: usize = 3;

/// Drain speed by rows in the table, and by messages in the queue, with the worker's peak memory.
pub async fn measure(env: &BenchEnv, options: &Options) -> Value {
    let rounds = options.rounds.min(ROUNDS);
    let mut table = Vec::new();
    let mut next = 0;
    env.truncate().await;
    for rows in &options.rows {
        while next < *rows {
            let until = (next + CHUNK).min(*rows);
            let events: Vec<BenchEvent> = (next..until).map(BenchEvent::number).collect();
            copy_rows(env, &events).await;
            next = until;
        }
        let mut speeds = Vec::new();
        for _ in 0..rounds {
            if *rows == 0 {
                env.truncate().await;
            }
            let client = connect(&env.database_url).await;
            for set_up in ["vacuum analyze enrichment_events", "checkpoint"] {
                client.batch_execute(set_up).await.unwrap();
            }
            let drain = full(env, next, options.events, options.events).await;
            next += options.events;
            speeds.push(drain.per_s);
            options.say(&format!("growth: {rows} rows in the table: {:.0} events/s", drain.per_s));
        }
        if *rows == 0 {
            env.truncate().await;
            next = 0;
        }
        table.push(json!({ "rows": rows, "events_per_second": spread(&speeds) }));
    }
    let mut queue = Vec::new();
    for messages in &options.messages {
        env.truncate().await;
        let drain = full(env, 0, *messages, options.events.min(*messages)).await;
        options.say(&format!(
            "growth: {messages} messages in the queue: {:.0} events/s, worker's peak {:.0} MiB",
            drain.per_s, drain.peak_mib
        ));
        queue.push(json!({
            "messages": messages, "events_per_second": spread(&[drain.per_s]), "peak_mib": spread(&[drain.peak_mib]),
        }));
    }
    json!({ "events": options.events, "rounds": rounds, "rows": table, "messages": queue })
}

/// A quorum queue with so many messages, and a worker until it has stored the first `events` of them.
async fn full(env: &BenchEnv, first: usize, messages: usize, events: usize) -> crate::contenders::Drain {
    env.declare(QueueKind::Quorum).await;
    let (_connection, channel) = env.channel().await.unwrap();
    for from in (first..first + messages).step_by(CHUNK) {
        let chunk: Vec<BenchEvent> =
            (from..(from + CHUNK).min(first + messages)).map(BenchEvent::number).collect();
        env.fill(&channel, &chunk).await;
    }
    let drain = worker(env, QueueKind::Quorum, events).await;
    env.remove_queues().await;
    drain
}
