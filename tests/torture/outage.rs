//! One long outage of one server under load: what the workers do meanwhile, and how fast the backlog goes afterwards.

use std::time::{Duration, Instant};

use crate::env::{TestEnv, depth_of, eventually};
use crate::ledger;
use crate::pool::Pool;
use crate::producers::Producers;
use crate::servers::Servers;

/// Load before the outage, to have something to compare with.
const BEFORE: Duration = Duration::from_secs(10);

/// Between two windows of a producer: some 500 events a second from both.
const PAUSE: Duration = Duration::from_millis(400);

/// Upper bound for working off the backlog.
const BACKLOG: Duration = Duration::from_secs(600);

/// Between two lines of the log.
const EVERY: Duration = Duration::from_secs(30);

const WORKERS: usize = 3;

pub async fn run(lasts: Duration) -> bool {
    let broker = std::env::var("SERVER").is_ok_and(|server| server == "broker");
    let env = TestEnv::new("outage").await;
    env.declare().await;
    let servers = Servers::new(&env).await;
    let pool = std::sync::Arc::new(Pool::start(&env, &servers, &env.database_url, WORKERS).await);
    let watch = pool.clone().watch();
    let producers = Producers::start(&env, 1, 2, PAUSE);
    tokio::time::sleep(BEFORE).await; // load before the outage, for a fixed time
    println!("outage of {} for {lasts:?}, {WORKERS} workers", if broker { "RabbitMQ" } else { "PostgreSQL" });
    say(&pool, &producers, "before");
    let memory: Vec<u64> = (0..WORKERS).map(|number| pool.memory(number)).collect();

    if broker {
        servers.signal_broker("-KILL")
    } else {
        servers.signal_database("-QUIT")
    }
    let started = Instant::now();
    while started.elapsed() < lasts {
        // The outage lasts for a fixed time.
        tokio::time::sleep(EVERY.min(lasts.saturating_sub(started.elapsed()))).await;
        say(&pool, &producers, &format!("{:.0} s", started.elapsed().as_secs_f64()));
    }
    let redelivered = sum(&pool, "cns_events_redelivered_total");
    let grown = (0..WORKERS).map(|number| pool.memory(number).saturating_sub(memory[number])).max().unwrap();
    servers.start().await;
    let over = Instant::now();
    let stored = sum_stored(&pool);
    let ledger = producers.finish().await;
    let (backlog, _) = depth_of(&env.queue()).await.unwrap_or_default();
    assert!(crate::settled(&env, BACKLOG).await, "the backlog is not worked off");
    eventually("nothing is in flight", async || sum(&pool, "cns_events_in_flight") == 0.0).await;
    let took = over.elapsed();
    let drained = sum_stored(&pool) - stored;
    println!(
        "memory of a worker grew by at most {} KiB; deliveries that came again until the end of the outage: {redelivered}\n\
         {drained} events stored in the {:.1} s after it, of them {backlog} still in the queue when the last was published",
        grown / 1024,
        took.as_secs_f64(),
    );
    watch.abort();
    let orderly = pool.stop().await;
    let verdict = ledger::balance(&env, &ledger).await;
    println!("{}", verdict.figures(started.elapsed(), pool.restarts()));
    let mut wrong = verdict.wrong();
    wrong.extend(pool.wrong());
    wrong.iter().for_each(|problem| println!("WRONG: {problem}"));
    if orderly && wrong.is_empty() {
        println!("OK: nothing lost, nothing twice, no dead letter");
    }
    orderly && wrong.is_empty()
}

fn say(pool: &Pool, producers: &Producers, when: &str) {
    let memory: Vec<String> =
        (0..WORKERS).map(|number| format!("{:.1}", pool.memory(number) as f64 / 1_048_576.0)).collect();
    println!(
        "{when:>8}: confirmed {}, stored {}, in flight {}, redelivered {}, store retries {}, memory {} MiB",
        producers.confirmed(),
        sum_stored(pool),
        sum(pool, "cns_events_in_flight"),
        sum(pool, "cns_events_redelivered_total"),
        sum(pool, r#"cns_events_store_retries_total{reason="connection"}"#),
        memory.join(" / "),
    );
}

fn sum(pool: &Pool, metric: &str) -> f64 {
    (0..WORKERS).map(|number| pool.metric_value(number, metric)).sum()
}

fn sum_stored(pool: &Pool) -> f64 {
    sum(pool, r#"cns_events_stored_total{event_type="cache_hit"}"#)
}
