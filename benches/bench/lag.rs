//! By how much the summaries are behind, while events are stored at a rate: the age of what they are complete up to, sampled.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::bench_env::{BenchEnv, BenchEvent, QueueKind, STORED, stop, wait_for};
use crate::env::{connect, metric_in};
use crate::{Options, spread};

/// Workflows at work at the same time.
const WORKFLOWS: usize = 500;

/// Events a second.
const RATE: usize = 5000;

/// Time before the measurement.
const WARM_UP: Duration = Duration::from_secs(3);

/// Quantiles of all samples, in seconds.
pub async fn measure(env: &BenchEnv, options: &Options) -> Value {
    env.truncate().await;
    let mut task = env.aggregate();
    wait_for(&mut task, "/readyz", |text| text.contains("true")).await;
    let mut worker = env.worker(QueueKind::Quorum, &env.worker_database_url);
    wait_for(&mut worker, "/readyz", |text| text.contains("true")).await;
    let (_connection, channel) = env.channel().await.unwrap();
    let seconds = Duration::from_secs(options.seconds) + WARM_UP;
    let total = seconds.as_secs_f64() * RATE as f64;
    let client = connect(&env.database_url).await;
    let sampling = tokio::spawn(async move {
        tokio::time::sleep(WARM_UP).await; // what is measured begins then
        let (mut samples, until) = (Vec::new(), Instant::now() + seconds - WARM_UP);
        while Instant::now() < until {
            let age =
                "select extract(epoch from clock_timestamp() - as_of)::float8 from enrichment_positions";
            samples.push(client.query_one(age, &[]).await.unwrap().get::<_, f64>(0));
            tokio::time::sleep(Duration::from_millis(50)).await; // the interval of the samples
        }
        samples
    });
    let started = Instant::now();
    for number in 0..total as usize {
        let due = started + Duration::from_secs_f64(number as f64 / RATE as f64);
        if due > Instant::now() {
            tokio::time::sleep_until(due.into()).await; // the rate of the load
        }
        // Without confirms: the worker tells what it stored.
        drop(env.publish(&channel, &BenchEvent::of(number, WORKFLOWS).now()).await);
    }
    let mut samples = sampling.await.unwrap();
    wait_for(&mut worker, "/metrics", |text| metric_in(text, STORED) >= total.floor()).await;
    stop(&mut worker);
    stop(&mut task);
    env.remove_queues().await;
    samples.sort_by(f64::total_cmp);
    let at = |share: f64| samples[((samples.len() - 1) as f64 * share) as usize];
    let [p50, p99, most] = [0.5, 0.99, 1.0].map(at);
    options.say(&format!(
        "lag at {RATE} events/s of {WORKFLOWS} workflows: p50 {p50:.2}, p99 {p99:.2}, most {most:.2} s"
    ));
    json!({
        "events_per_second": RATE, "workflows": WORKFLOWS, "seconds": options.seconds,
        "p50_s": spread(&[p50]), "p99_s": spread(&[p99]), "most_s": spread(&[most]),
    })
}
