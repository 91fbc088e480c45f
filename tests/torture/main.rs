//! Random faults under load. Afterwards every event that the broker confirmed is a row or a dead letter, none is both, and no
//! worker ended by itself; and the summaries are what the events say.
//!
//! `make torture` (FAULTS=200 SEED=7), `make outage` (SECONDS=600 SERVER=database). It kills servers, so it has a pair of its
//! own: this program starts them, runs itself with their URLs, and stops them. A short run is part of `make test`.

#![allow(
    unreachable_pub,
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout
)]

#[path = "../env/mod.rs"]
mod env;

mod faults;
mod ledger;
mod outage;
mod pool;
mod producers;
mod servers;
mod summaries;

use std::sync::Arc;
use std::time::{Duration, Instant};

use env::TestEnv;
use faults::Plan;
use pool::Pool;
use producers::Producers;
use servers::Servers;
use summaries::Summaries;

/// Faults of the run that is part of every test run: each kind once, in about half a minute.
const SHORT: usize = 19;

/// Between two windows: some 2,000 events a second from each producer, half of what the pool can store.
const PAUSE: Duration = Duration::from_millis(50);

/// Load before the first fault. RabbitMQ 3.10 can lose a quorum queue that was declared less than some seconds before a
/// SIGKILL: it is listed then, and confirms nothing. That is not what is tested.
const BEFORE: Duration = Duration::from_secs(8);

/// Upper bound for working off the queue after the last fault.
const SETTLE: Duration = Duration::from_secs(240);

const MIB: u64 = 1024 * 1024;

/// Upper bound of a worker's memory: two lanes of `worker.buffer_bytes` (64 MiB each), and the program.
const MAX_MEMORY: u64 = 256 * MIB;

/// Lanes of the pool: three workers with two each.
const LANES: u32 = 6;

fn main() {
    if std::env::args().any(|argument| argument == "--list") {
        return; // cargo asks every test for its tests; this one has none that run alone
    }
    if std::env::var_os(servers::AGAIN).is_none() {
        if !env::servers_are_private() {
            println!(
                "torture needs servers of its own to kill, which `scripts/services` starts where AMQP_URL is unset: not run"
            );
            return;
        }
        std::process::exit(servers::with_own());
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let ok = runtime.block_on(async {
        match std::env::var("OUTAGE_SECONDS") {
            Ok(seconds) => {
                outage::run(Duration::from_secs(seconds.parse().expect("OUTAGE_SECONDS is a number"))).await
            }
            Err(_) => torture().await,
        }
    });
    std::process::exit(i32::from(!ok));
}

async fn torture() -> bool {
    let number =
        |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty()).map(|text| text.parse::<u64>());
    let faults = number("FAULTS").map_or(SHORT, |faults| faults.expect("FAULTS is a number") as usize);
    let seed =
        number("SEED").map_or_else(|| fastrand::u64(..1_000_000), |seed| seed.expect("SEED is a number"));
    let plan = Plan::new(seed, faults);
    println!("torture: {faults} faults, SEED={seed} repeats them");

    let env = TestEnv::new("torture").await;
    env.declare().await;
    producers::refuse_some(&env).await;
    let servers = Servers::new(&env).await;
    let (_, url) = env.login("in role service_role").await;
    let pool = Arc::new(Pool::start(&env, &servers, &url, 3).await);
    let watch = pool.clone().watch();
    let summaries = Summaries::start(&env, &servers, seed);
    let producers = Producers::start(&env, seed, 2, PAUSE);
    tokio::time::sleep(BEFORE).await; // load before the first fault, for a fixed time
    assert!(producers.confirmed() > 0, "nothing is confirmed before the first fault");
    let started = Instant::now();
    for (number, fault) in plan.faults.iter().enumerate() {
        println!("[{:>3}/{faults}] {:>6.1} s  {fault}", number + 1, started.elapsed().as_secs_f64());
        fault.happen(&env, &servers, &pool, &producers).await;
        // The plan's own pause: long enough that work goes on between faults, or short enough that it does not.
        tokio::time::sleep(fault.pause).await;
    }
    let ledger = producers.finish().await;
    let settled = settled(&env, SETTLE).await && pool.idle(SETTLE).await;
    let took = started.elapsed();
    watch.abort();
    let consumes = all_consume(&env, SETTLE).await;
    let orderly = pool.stop().await;
    let rows =
        env::connect(&env.database_url).await.query_one("select count(*) from enrichment_events", &[]).await;
    let (kills, differences) = summaries.finish(&env, rows.unwrap().get(0)).await;

    println!("\n{}", plan.table());
    let verdict = ledger::balance(&env, &ledger).await;
    println!("{}", verdict.figures(took, pool.restarts()));
    let mut wrong = verdict.wrong();
    wrong.extend(pool.wrong());
    wrong.extend(differences);
    println!("the task that keeps the summaries was killed {kills} times");
    println!("most memory of a worker: {} MiB", pool.most_memory() / MIB);
    if pool.most_memory() > MAX_MEMORY {
        wrong.push(format!("a worker took more than {} MiB", MAX_MEMORY / MIB));
    }
    if !consumes {
        wrong.push(format!("not all of the {LANES} lanes consume: one is parked"));
    }
    if !settled {
        wrong.push("the queue is not empty".into());
    }
    if !orderly {
        wrong.push("a worker did not end with 0 at SIGTERM".into());
    }
    if wrong.is_empty() {
        println!("OK: 0 lost, 0 twice. SEED={seed} FAULTS={faults}");
    } else {
        println!("FAILED: SEED={seed} FAULTS={faults} repeats it; logs: {}", env.logs().display());
        wrong.iter().for_each(|problem| println!("  {problem}"));
        std::mem::forget(env); // what is there helps to find out why
    }
    wrong.is_empty()
}

/// Returns true if every lane consumed in time: one that changes its prefetch does not for a moment.
async fn all_consume(env: &TestEnv, limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    while Instant::now() < deadline {
        if env::depth_of(&env.queue()).await.is_some_and(|(_, consumers)| consumers == LANES) {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(100)).await; // a queue sends no signal
    }
    false
}

/// Returns true if the queue was empty in time.
async fn settled(env: &TestEnv, limit: Duration) -> bool {
    let deadline = Instant::now() + limit;
    while Instant::now() < deadline {
        // Over a connection of its own: the environment's is long closed.
        if env::depth_of(&env.queue()).await.is_some_and(|(ready, _)| ready == 0) {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(100)).await; // a queue sends no signal
    }
    false
}
