//! From publishing to the commit: `pg_xact_commit_timestamp` minus the moment at which the event was made, right before it was
//! published.

use std::time::{Duration, Instant};

use chrono::Utc;
use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::bench_env::{BenchEnv, BenchEvent, QueueKind, STORED, stop, wait_for};
use crate::env::{connect, metric_in};
use crate::{Options, spread};

/// Time before the measurement: the first batches settle the worker's prefetch.
const WARM_UP: Duration = Duration::from_secs(3);

/// Rounds of each rate.
const ROUNDS: usize = 3;

/// For each kind of queue and each rate, quantiles in milliseconds.
pub async fn measure(env: &BenchEnv, options: &Options) -> Value {
    let mut queues = Map::new();
    for queue in &options.queue {
        let mut rates = Map::new();
        for rate in &options.rates {
            let mut quantiles: [Vec<f64>; 3] = Default::default();
            for round in 1..=options.rounds.min(ROUNDS) {
                let measured = at(env, options, *queue, *rate).await;
                options.say(&format!(
                    "latency, round {round}: {:>5} events/s, {}: p50 {:.2}, p99 {:.2}, p99.9 {:.2} ms",
                    rate,
                    queue.name(),
                    measured[0],
                    measured[1],
                    measured[2]
                ));
                quantiles.iter_mut().zip(measured).for_each(|(all, one)| all.push(one));
            }
            let [p50, p99, p999] = quantiles.map(|all| spread(&all));
            rates.insert(rate.to_string(), json!({ "p50_ms": p50, "p99_ms": p99, "p999_ms": p999 }));
        }
        queues.insert(queue.name().into(), Value::Object(rates));
    }
    json!({ "seconds": options.seconds, "rounds": options.rounds.min(ROUNDS), "queues": queues })
}

/// Publishes at a rate, and asks the database when it had each event: p50, p99 and p99.9 in milliseconds.
async fn at(env: &BenchEnv, options: &Options, queue: QueueKind, rate: usize) -> [f64; 3] {
    env.truncate().await;
    let mut worker = env.worker(queue, &env.worker_database_url);
    wait_for(&mut worker, "/readyz", |text| text.contains("true")).await;
    let (_connection, channel) = env.channel().await.unwrap();
    let confirms = lapin::options::ConfirmSelectOptions::default();
    channel.confirm_select(confirms).await.unwrap();

    let measured_from = Utc::now() + WARM_UP;
    let total = (WARM_UP + Duration::from_secs(options.seconds)).as_secs_f64() * rate as f64;
    let started = Instant::now();
    let mut pending = Vec::new();
    for number in 0..total as usize {
        let due = started + Duration::from_secs_f64(number as f64 / rate as f64);
        // The timer ticks in milliseconds: what is due within one is published together.
        if due > Instant::now() {
            tokio::time::sleep_until(due.into()).await; // the rate of the load
        }
        pending.push(env.publish(&channel, &BenchEvent::number(number).now()).await);
        if pending.len() == 1000 {
            let confirmed = std::mem::take(&mut pending);
            tokio::spawn(async move {
                for confirm in confirmed {
                    assert!(confirm.await.unwrap().is_ack());
                }
            });
        }
    }
    wait_for(&mut worker, "/metrics", |text| metric_in(text, STORED) >= total.floor()).await;
    stop(&mut worker);
    let row = connect(&env.database_url)
        .await
        .query_one(
            "select percentile_cont(array[0.5, 0.99, 0.999]) within group \
             (order by (extract(epoch from pg_xact_commit_timestamp(xmin) - created_at) * 1000)::float8) \
             from enrichment_events where created_at >= $1 and id > $2",
            &[&measured_from, &Uuid::nil()],
        )
        .await
        .unwrap();
    env.remove_queues().await;
    let quantiles: Vec<f64> = row.get(0);
    [quantiles[0], quantiles[1], quantiles[2]]
}
