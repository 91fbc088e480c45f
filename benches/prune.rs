//! Cost of retention for a worker: the speed of a worker with a backlog, while `cns-events prune` deletes a million rows from the
//! same table, beside its own speed without.
//!
//!     make retention                                      # a million old rows, two rounds; some ten minutes
//!     cargo bench --bench prune -- --rows 100000 --seconds 5 --rounds 1
//!
//! The worker is alone, beside prune, and alone again; the mean of the two ends estimates the middle, with a
//! table that grows. All the time the queue is topped up as fast as it is drained, so that its length is the same throughout. At
//! the end of each round no old row is left, and every event is there.

#![allow(unreachable_pub, clippy::print_stdout, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod bench_env;
#[path = "../tests/env/mod.rs"]
mod env;

use std::cell::Cell;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use bench_env::{BenchEnv, BenchEvent, QueueKind, STORED, median, stop, wait_for, wait_until_stored};
use clap::Parser;
use env::{Worker, connect};
use lapin::Channel;
use serde_json::json;

/// Drain speed beside retention
#[derive(Parser)]
struct Options {
    /// Old rows that retention deletes
    #[arg(long, default_value_t = 1_000_000)]
    rows: usize,
    /// Events waiting in the queue, at least
    #[arg(long, default_value_t = 200_000)]
    backlog: usize,
    /// Seconds for which the worker is alone, before and after
    #[arg(long, default_value_t = 15)]
    seconds: u64,
    /// Rounds; medians are printed
    #[arg(long, default_value_t = 2)]
    rounds: usize,
    /// `prune --rate`; its default where it is not given
    #[arg(long)]
    rate: Option<u32>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Added by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

/// Events a second in each part of a round.
struct Round {
    before: f64,
    beside: f64,
    after: f64,
    /// Duration of the retention run.
    seconds: f64,
}

impl Round {
    fn ratio(&self) -> f64 {
        self.beside / ((self.before + self.after) / 2.0)
    }
}

#[tokio::main]
async fn main() {
    let options = Options::parse();
    let env = BenchEnv::new("prune").await;
    let mut rounds = Vec::new();
    for number in 1..=options.rounds {
        let round = round(&env, &options).await;
        if !options.json {
            println!(
                "round {number}: the worker alone {:.0} events/s, beside prune {:.0}, alone again {:.0}: {:.2} of its own speed; {} rows deleted in {:.0} s",
                round.before,
                round.beside,
                round.after,
                round.ratio(),
                options.rows,
                round.seconds
            );
        }
        rounds.push(round);
    }
    env.tear_down().await;
    let ratios: Vec<f64> = rounds.iter().map(Round::ratio).collect();
    let ratio = median(ratios.clone());
    if options.json {
        println!(
            "{}",
            json!({ "rows": options.rows, "backlog": options.backlog, "beside_to_alone": ratio, "all": ratios })
        );
    } else {
        println!("median of {}: beside prune the worker has {ratio:.2} of its own speed", options.rounds);
    }
}

async fn round(env: &BenchEnv, options: &Options) -> Round {
    env.truncate().await;
    let sql = connect(&env.database_url).await;
    for first in (0..options.rows).step_by(CHUNK) {
        age(&sql, first, CHUNK.min(options.rows - first)).await;
    }
    for set_up in ["vacuum analyze enrichment_events", "checkpoint"] {
        sql.batch_execute(set_up).await.unwrap();
    }
    env.declare(QueueKind::Quorum).await;
    let (_connection, channel) = env.channel().await.unwrap();
    let mut worker = env.worker(QueueKind::Quorum, &env.worker_database_url);
    wait_for(&mut worker, "/readyz", |text| text.contains("true")).await;
    let done = Cell::new(false);
    let measured = async {
        // Up to speed first.
        while stored(&worker) < options.backlog as f64 / 2.0 {
            tokio::time::sleep(Duration::from_millis(100)).await; // the worker sends no signal
        }
        let before = alone(options, &worker).await;
        let (beside, seconds) = besides(env, options, &worker).await;
        let after = alone(options, &worker).await;
        done.set(true);
        Round { before, beside, after, seconds }
    };
    let (events, round) = tokio::join!(top_up(env, &channel, options, &worker, &done), measured);
    wait_until_stored(std::slice::from_mut(&mut worker), events as f64).await;
    stop(&mut worker);
    let left = sql
        .query_one(
            "select count(*) filter (where event_id like 'old-%'), count(*) from enrichment_events",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(left.get::<_, i64>(0), 0, "old rows are left");
    assert_eq!(left.get::<_, i64>(1), events as i64, "every event is there, once");
    env.remove_queues().await;
    round
}

/// Publishes as many as are stored, until it is done; how many those were.
async fn top_up(
    env: &BenchEnv,
    channel: &Channel,
    options: &Options,
    worker: &Worker,
    done: &Cell<bool>,
) -> usize {
    let mut published = 0;
    while !done.get() {
        let waiting = published as f64 - stored(worker);
        if waiting < options.backlog as f64 {
            let events: Vec<BenchEvent> = (published..published + TOP_UP).map(BenchEvent::number).collect();
            env.fill(channel, &events).await;
            published += TOP_UP;
        }
        tokio::time::sleep(Duration::from_millis(5)).await; // the worker sends no signal
    }
    published
}

/// Rows of an insert.
const CHUNK: usize = 100_000;

/// Events of a fill.
const TOP_UP: usize = 10_000;

/// Rows like the events', and older than those: the events' own moment is fixed, and months ago.
async fn age(sql: &tokio_postgres::Client, first: usize, rows: usize) {
    let (mut ids, mut states, mut payloads) = (Vec::new(), Vec::new(), Vec::new());
    for n in first..first + rows {
        let event = BenchEvent::number(n);
        ids.push(format!("old-{n}"));
        states.push(event.state);
        payloads.push(event.payload);
    }
    sql.execute(
        "insert into enrichment_events (event_id, event_type, routing_key, bom_id, tenant_id, source, workflow_id, state, payload, created_at) \
         select id, 'enrichment_progress', 'cns.enrichment.progress', md5((n % 400)::text)::uuid, md5((n % 40)::text)::uuid, 'customer', \
         'enrich-bom-' || n % 400, state::jsonb, payload::jsonb, now() - interval '3 years' + n * interval '1 second' \
         from unnest($1::text[], $2::text[], $3::text[]) with ordinality as rows (id, state, payload, n)",
        &[&ids, &states, &payloads],
    )
    .await
    .unwrap();
}

/// The worker's speed while prune deletes everything that is old.
async fn besides(env: &BenchEnv, options: &Options, worker: &Worker) -> (f64, f64) {
    let mut prune = start(env, options);
    let (started, from) = (Instant::now(), stored(worker));
    let status = loop {
        if let Some(status) = prune.try_wait().unwrap() {
            break status;
        }
        tokio::time::sleep(Duration::from_millis(20)).await; // an ending process sends no signal here
    };
    let (seconds, to) = (started.elapsed().as_secs_f64(), stored(worker));
    assert!(status.success(), "prune failed");
    ((to - from) / seconds, seconds)
}

fn start(env: &BenchEnv, options: &Options) -> Child {
    let mut command = env.command(QueueKind::Quorum);
    command.env("CNS_EVENTS__HTTP__LISTEN", "127.0.0.1:0").args([
        "prune",
        "--older-than",
        "2y",
        "--yes",
        "--json",
    ]);
    if let Some(rate) = options.rate {
        command.args(["--rate", &rate.to_string()]);
    }
    command.stdout(Stdio::null()).spawn().unwrap()
}

/// The worker's speed with nothing beside it.
async fn alone(options: &Options, worker: &Worker) -> f64 {
    let (started, from) = (Instant::now(), stored(worker));
    tokio::time::sleep(Duration::from_secs(options.seconds)).await; // the time of the measurement
    (stored(worker) - from) / started.elapsed().as_secs_f64()
}

fn stored(worker: &Worker) -> f64 {
    worker.metric_value(STORED)
}
