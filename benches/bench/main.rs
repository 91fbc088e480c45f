//! Speed of the worker, beside the servers' limits and beside workers in Python: everything in one run, on servers of its own.
//!
//!     make bench                                              # all of it: about an hour; writes docs/benchmarks
//!     make bench BENCH="--only drain --queue quorum --rounds 3"
//!     make bench BENCH=--smoke                                # under a minute: whether it works, no figures to keep
//!
//! Parts: `drain` of a prefilled queue, `latency` from publishing to the commit, `growth` of the table and of the queue, the
//! `publisher`, and the cost of the `journal` and of the summaries. In each round the contenders take turns, in another order every time, so that a machine whose speed drifts
//! treats all alike. Medians are printed, with the lowest and the highest.

#![allow(unreachable_pub, clippy::print_stdout, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../bench_env/mod.rs"]
mod bench_env;
mod contenders;
mod drain;
#[path = "../../tests/env/mod.rs"]
mod env;
mod growth;
mod journal;
mod lag;
mod latency;
mod machine;
mod plot;
mod publisher;
mod report;

use std::path::{Path, PathBuf};

use bench_env::{BenchEnv, QueueKind};
use clap::{Parser, ValueEnum};
use env::{amqp_url, connect};
use serde_json::{Map, Value, json};

/// Speed of the worker, beside the servers' limits and beside Python
#[derive(Parser)]
struct Options {
    /// The parts to measure
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [Part::Drain, Part::Latency, Part::Publisher, Part::Journal, Part::Lag, Part::Growth])]
    only: Vec<Part>,
    /// The kinds of queue
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = [QueueKind::Quorum, QueueKind::Classic, QueueKind::Priority])]
    queue: Vec<QueueKind>,
    /// Events to drain
    #[arg(long, default_value_t = 200_000)]
    events: usize,
    /// Rounds
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Do not measure beside Python
    #[arg(long)]
    no_python: bool,
    /// Events a second whose latency is measured
    #[arg(long, value_delimiter = ',', default_values_t = [100, 1000, 5000])]
    rates: Vec<usize>,
    /// Seconds at each rate
    #[arg(long, default_value_t = 20)]
    seconds: u64,
    /// Rows in the table before a drain
    #[arg(long, value_delimiter = ',', default_values_t = [0, 1_000_000, 5_000_000, 10_000_000])]
    rows: Vec<usize>,
    /// Messages in the queue before a drain
    #[arg(long, value_delimiter = ',', default_values_t = [1_000_000, 5_000_000])]
    messages: Vec<usize>,
    /// Folder for results.json, results.md and results.svg; none without it
    #[arg(long)]
    out: Option<PathBuf>,
    /// A little of everything, in under a minute
    #[arg(long)]
    smoke: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Added by `cargo bench`
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Part {
    Drain,
    Latency,
    Growth,
    Publisher,
    Journal,
    Lag,
}

impl Options {
    /// Small enough for a continuous integration.
    fn smoked(self) -> Options {
        Options {
            queue: vec![QueueKind::Quorum],
            events: 5_000,
            rounds: 1,
            rates: vec![1000],
            seconds: 3,
            rows: vec![0, 20_000],
            messages: vec![10_000],
            ..self
        }
    }

    /// Says on the way what is done: a run takes long.
    fn say(&self, what: &str) {
        if !self.json {
            println!("{what}");
        }
    }
}

#[tokio::main]
async fn main() {
    let mut options = Options::parse();
    if options.smoke {
        options = options.smoked();
    }
    let env = BenchEnv::new("bench").await;
    calm(&env).await;
    let mut results = Map::new();
    results.insert("machine".into(), machine::describe(&env).await);
    for part in &options.only {
        let (name, figures) = match part {
            Part::Drain => ("drain", drain::measure(&env, &options).await),
            Part::Latency => ("latency", latency::measure(&env, &options).await),
            Part::Growth => ("growth", growth::measure(&env, &options).await),
            Part::Lag => ("lag", lag::measure(&env, &options).await),
            Part::Journal => ("journal", journal::measure(&env, &options).await),
            Part::Publisher => ("publisher", publisher::measure(&amqp_url(), &options).await),
        };
        results.insert(name.into(), figures);
        // After each part: what has been measured is not lost with what comes next.
        if let Some(folder) = &options.out {
            write(&Value::Object(results.clone()), folder);
        }
    }
    env.tear_down().await;
    let results = Value::Object(results);
    if options.json {
        println!("{results:#}");
    } else {
        println!("\n{}", report::table(&results));
    }
}

fn write(results: &Value, folder: &Path) {
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("results.json"), format!("{results:#}\n")).unwrap();
    std::fs::write(folder.join("results.md"), report::table(results)).unwrap();
    plot::draw(results, &folder.join("results.svg"));
}

/// The database's own clocks would decide whose seconds a checkpoint or a vacuum falls into. Both are asked for between the
/// measurements instead; nothing of durability is touched.
async fn calm(env: &BenchEnv) {
    let client = connect(&env.database_url).await;
    for setting in [
        "alter system set checkpoint_timeout = '1h'",
        "alter system set max_wal_size = '8GB'",
        "select pg_reload_conf()",
        "alter table enrichment_events set (autovacuum_enabled = false)",
    ] {
        client.batch_execute(setting).await.expect("the servers are this benchmark's own: make bench");
    }
}

/// A median, with the lowest and the highest.
fn spread(values: &[f64]) -> Value {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    json!({
        "median": bench_env::median(sorted.clone()), "min": sorted.first(), "max": sorted.last(),
    })
}
