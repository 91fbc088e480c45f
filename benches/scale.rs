//! Speed of four workers beside one, with a distant database: behind a relay that makes a round trip
//! take 300 ms.
//!
//!     make scaling                                        # 200,000 events, three rounds, one worker and four
//!     cargo bench --bench scale -- --round-trip-ms 100 --workers 1,2,4,8
//!
//! Each worker is a process with its default configuration. The time is taken from the database's commit timestamps, in the
//! middle of the drain.

#![allow(unreachable_pub, clippy::print_stdout, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bench_env;
#[path = "../tests/env/mod.rs"]
mod env;

use std::time::Duration;

use bench_env::{BenchEnv, BenchEvent, QueueKind, median, steady_speed, stop, wait_until_stored};
use clap::Parser;
use env::connect;
use env::relay::Relay;
use serde_json::json;

/// Drain speed by the number of workers
#[derive(Parser)]
struct Options {
    /// Events in the queue
    #[arg(long, default_value_t = 200_000)]
    events: usize,
    /// Rounds; medians are printed
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// Numbers of workers, in turn
    #[arg(long, value_delimiter = ',', default_values_t = [1, 4])]
    workers: Vec<u16>,
    /// Round trip between worker and database
    #[arg(long, default_value_t = 300)]
    round_trip_ms: u64,
    /// The kind of queue
    #[arg(long, value_enum, default_value_t = QueueKind::Quorum)]
    queue: QueueKind,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Added by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

#[tokio::main]
async fn main() {
    let options = Options::parse();
    let env = BenchEnv::new("scale").await;
    let relay = Relay::before(&env.database_url).await;
    relay.open().await;
    relay.slow(Duration::from_millis(options.round_trip_ms / 2));
    let mut speeds = vec![Vec::new(); options.workers.len()];
    for round in 1..=options.rounds {
        for (speeds, workers) in speeds.iter_mut().zip(&options.workers) {
            let speed = drain(&env, &options, *workers, &relay.url(&env.worker_database_url)).await;
            if !options.json {
                println!("round {round}: {workers} workers drain {speed:.0} events/s");
            }
            speeds.push(speed);
        }
    }
    env.tear_down().await;
    let medians: Vec<f64> = speeds.into_iter().map(median).collect();
    for (workers, speed) in options.workers.iter().zip(&medians) {
        let factor = speed / medians[0];
        if options.json {
            println!("{}", json!({ "workers": workers, "events_per_second": speed, "factor": factor }));
        } else {
            println!("median: {workers} workers {speed:.0} events/s, {factor:.2} times the first");
        }
    }
}

/// Events a second.
async fn drain(env: &BenchEnv, options: &Options, workers: u16, database: &str) -> f64 {
    env.truncate().await;
    env.declare(options.queue).await;
    let (_connection, channel) = env.channel().await.unwrap();
    let events: Vec<BenchEvent> = (0..options.events).map(BenchEvent::number).collect();
    env.fill(&channel, &events).await;
    let mut pool: Vec<_> = (1..=workers).map(|_| env.worker(options.queue, database)).collect();
    wait_until_stored(&mut pool, options.events as f64).await;
    pool.iter_mut().for_each(stop);
    let speed = steady_speed(&connect(&env.database_url).await).await;
    env.remove_queues().await;
    speed
}
