//! The contenders of a drain: each from a full queue, into a table that no other program uses.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use lapin::message::Delivery;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions, QueueDeclareOptions};
use lapin::types::FieldTable;
use lapin::{Connection, ConnectionProperties};
use serde_json::{Map, Value};
use tokio_postgres::Client;
use uuid::Uuid;

use crate::bench_env::machine::{ServerProcesses, cpu_us, peak_mib};
use crate::bench_env::{BenchEnv, BenchEvent, QueueKind, STORED, TIMEOUT, speed_by_commits, stop, wait_for};
use crate::env::{amqp_url, connect, metric_in};

/// Rows of a COPY, messages of an ack: what the worker's batches have.
const CHUNK: usize = 1000;

/// Figures of one drain.
pub struct Drain {
    pub per_s: f64,
    /// Processor time for each event, in microseconds: the contender's own, the broker's, the database's.
    pub cpu_us: [f64; 3],
    pub peak_mib: f64,
    /// Batches by their rows: `le` and how many had no more (the worker's histogram).
    pub batches: Map<String, Value>,
    pub rows_per_batch: f64,
}

/// Takes the times of a drain's two ends.
struct Watch {
    servers: Option<ServerProcesses>,
    before: (f64, f64),
}

impl Watch {
    fn start() -> Watch {
        let servers = ServerProcesses::find();
        Watch { servers, before: ServerProcesses::cpu_us(servers) }
    }

    fn stop(&self, own_us: f64, events: usize) -> [f64; 3] {
        let after = ServerProcesses::cpu_us(self.servers);
        [own_us, after.0 - self.before.0, after.1 - self.before.1].map(|us| us / events as f64)
    }
}

/// The database's ceiling: text COPY from two connections, each chunk its own transaction.
pub async fn copy(env: &BenchEnv, events: &[BenchEvent]) -> Drain {
    env.truncate().await;
    let watch = Watch::start();
    let per_s = copy_rows(env, events).await;
    Drain { per_s, cpu_us: watch.stop(f64::NAN, events.len()), ..Drain::default() }
}

/// Copies from two connections; rows a second.
pub async fn copy_rows(env: &BenchEnv, events: &[BenchEvent]) -> f64 {
    let chunks: Vec<Bytes> = events
        .chunks(CHUNK)
        .map(|chunk| {
            let mut text = String::new();
            chunk.iter().for_each(|event| event.line(&mut text));
            Bytes::from(text)
        })
        .collect();
    let (left, right) = chunks.split_at(chunks.len() / 2);
    let clients = (connect(&env.database_url).await, connect(&env.database_url).await);
    let started = Instant::now();
    tokio::join!(copy_chunks(&clients.0, left), copy_chunks(&clients.1, right));
    events.len() as f64 / started.elapsed().as_secs_f64()
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

/// Our worker, until it has stored so many events of the queue.
pub async fn worker(env: &BenchEnv, queue: QueueKind, events: usize) -> Drain {
    let since = Uuid::now_v7();
    let watch = Watch::start();
    let mut worker = env.worker(queue, &env.worker_database_url);
    wait_for(&mut worker, "/metrics", |text| metric_in(text, STORED) >= events as f64).await;
    let (_, text) = worker.get("/metrics").unwrap();
    let (pid, stored) = (worker.child.id(), metric_in(&text, "cns_events_batch_rows_sum"));
    let cpu_us = watch.stop(cpu_us(pid), stored as usize);
    let peak_mib = peak_mib(pid);
    stop(&mut worker);
    let batches = text.lines().filter_map(|line| {
        let (le, count) = line.strip_prefix(r#"cns_events_batch_rows_bucket{le=""#)?.split_once(r#""} "#)?;
        Some((le.to_owned(), count.parse::<u64>().ok()?.into()))
    });
    Drain {
        per_s: speed_by_commits(&connect(&env.database_url).await, since).await,
        cpu_us,
        peak_mib,
        batches: batches.collect(),
        rows_per_batch: stored / metric_in(&text, "cns_events_batch_rows_count"),
    }
}

/// The broker's ceiling: lapin takes the messages and acks them, two channels as the worker's lanes, and no database.
pub async fn lapin(env: &BenchEnv, events: usize) -> Drain {
    let watch = Watch::start();
    let own = cpu_us(std::process::id());
    let connection = Connection::connect(&amqp_url(), ConnectionProperties::default()).await.unwrap();
    let started = Instant::now();
    let (left, right) = tokio::join!(take(&connection, env), take(&connection, env));
    // Each ends after a while without a message.
    let (taken, last) = (left.0 + right.0, left.1.max(right.1));
    assert_eq!(taken, events, "every message is taken once");
    let own = cpu_us(std::process::id()) - own;
    // Its channels close by themselves when their consumers are dropped, so that this may fail.
    let _ = connection.close(200, "done".into()).await;
    Drain {
        per_s: events as f64 / (last - started).as_secs_f64(),
        cpu_us: watch.stop(own, events),
        ..Drain::default()
    }
}

async fn take(connection: &Connection, env: &BenchEnv) -> (usize, Instant) {
    let channel = connection.create_channel().await.unwrap();
    channel.basic_qos(2 * CHUNK as u16, BasicQosOptions::default()).await.unwrap();
    let queue = env.queue();
    let options = BasicConsumeOptions::default();
    let mut consumer =
        channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await.unwrap();
    let (mut taken, mut last, mut unacked) = (0, Instant::now(), None);
    while let Ok(Some(delivery)) = tokio::time::timeout(Duration::from_secs(1), consumer.next()).await {
        let delivery = delivery.unwrap();
        taken += 1;
        last = Instant::now();
        unacked = Some(delivery);
        if taken % CHUNK == 0 {
            ack(&mut unacked).await;
        }
    }
    ack(&mut unacked).await;
    (taken, last)
}

async fn ack(unacked: &mut Option<Delivery>) {
    if let Some(last) = unacked.take() {
        last.acker.ack(BasicAckOptions { multiple: true }).await.unwrap();
    }
}

/// The workers in Python.
#[derive(Clone, Copy)]
pub enum Dependency {
    OneAtATime,
    Tuned,
}

impl Dependency {
    fn script(self) -> &'static str {
        match self {
            Dependency::OneAtATime => "one_at_a_time.py",
            Dependency::Tuned => "tuned.py",
        }
    }

    /// A worker in Python, until every event is in the table.
    pub async fn drain(self, env: &BenchEnv, python: &Path, events: usize) -> Drain {
        let watch = Watch::start();
        let script = folder().join(self.script());
        let queue = env.queue();
        let mut child = Stopped(
            Command::new(python)
                .arg(script)
                .args([&amqp_url(), &env.worker_database_url, &queue])
                .stdin(Stdio::null())
                .spawn()
                .expect("the Python worker starts"),
        );
        let client = connect(&env.database_url).await;
        let (_connection, channel) = env.channel().await.unwrap();
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let deadline = Instant::now() + TIMEOUT;
        loop {
            // Rows are counted when there is nothing else to do: before, it would cost the one who is measured.
            let left = channel.queue_declare(queue.as_str().into(), passive, FieldTable::default()).await;
            if left.unwrap().message_count() == 0 && rows(&client).await >= events as i64 {
                break;
            }
            assert!(child.0.try_wait().unwrap().is_none(), "{} ended", self.script());
            assert!(Instant::now() < deadline, "{} is not done", self.script());
            tokio::time::sleep(Duration::from_millis(200)).await; // the Python worker sends no signal
        }
        let (own, peak_mib) = (cpu_us(child.0.id()), peak_mib(child.0.id()));
        let cpu_us = watch.stop(own, events);
        drop(child);
        Drain { per_s: speed_by_commits(&client, Uuid::nil()).await, cpu_us, peak_mib, ..Drain::default() }
    }
}

async fn rows(client: &Client) -> i64 {
    client.query_one("select count(*) from enrichment_events", &[]).await.unwrap().get(0)
}

/// A process that does not outlive its measurement.
struct Stopped(Child);

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers")
}

/// A Python that has what the workers need, installed the first time; none where that cannot be.
pub fn python() -> Option<PathBuf> {
    let environment = Path::new(env!("CARGO_TARGET_TMPDIR")).join("peers");
    let python = environment.join("bin/python");
    let run = |program: &Path, arguments: &[&str]| {
        Command::new(program).args(arguments).status().is_ok_and(|status| status.success())
    };
    let requirements = folder().join("requirements.txt");
    let ready = run(Path::new("python3"), &["-m", "venv", &environment.to_string_lossy()])
        && run(
            &python,
            &["-m", "pip", "install", "--quiet", "--requirement", &requirements.to_string_lossy()],
        );
    ready.then_some(python)
}

impl Default for Drain {
    fn default() -> Self {
        Drain {
            per_s: f64::NAN,
            cpu_us: [f64::NAN; 3],
            peak_mib: f64::NAN,
            batches: Map::new(),
            rows_per_batch: f64::NAN,
        }
    }
}
