//! How fast a worker drains a prefilled queue, beside COPY of the same rows from two connections into the same
//! table, in the same run.
//!
//!     make drain                                  # 100,000 events, three rounds, a quorum queue
//!     cargo bench --bench drain -- --events 20000 --rounds 1 --queue classic --json
//!
//! Wants AMQP_URL and DATABASE_URL (`make -s env`) and a login that may create databases. The rows are those of
//! the contract's table with all its indexes; COPY is text in chunks of 1,000 rows, each its own transaction,
//! with UUIDv7 ids supplied. The worker runs as its own process, with its default configuration. Its time is
//! taken from the database's commit timestamps, first commit to last.

#![allow(clippy::print_stdout, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::{Parser, ValueEnum};
use futures_util::SinkExt;
use lapin::options::{BasicPublishOptions, ExchangeDeleteOptions};
use lapin::options::{ConfirmSelectOptions, QueueDeleteOptions};
use lapin::{Channel, Connection, ConnectionProperties};
use serde_json::json;
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

/// Drain speed of a worker, beside COPY
#[derive(Parser)]
struct Options {
    /// Events in the queue
    #[arg(long, default_value_t = 100_000)]
    events: usize,
    /// Rounds; medians are printed
    #[arg(long, default_value_t = 3)]
    rounds: usize,
    /// The kind of queue
    #[arg(long, value_enum, default_value_t = Queue::Quorum)]
    queue: Queue,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// What `cargo bench` adds
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Queue {
    Quorum,
    Classic,
    /// Classic with ten priorities
    Priority,
}

const CHUNK: usize = 1000;

/// One event of about 760 bytes.
struct Event {
    id: String,
    bom: Uuid,
    tenant: Uuid,
    created_at: String,
    state: String,
    payload: String,
}

impl Event {
    fn number(n: usize) -> Event {
        // As a busy evening has it: 400 workflows of 40 tenants at once, their events mixed.
        let scattered = |seed: usize, of: &[u8]| {
            let mixed = (seed as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
            Uuid::new_v5(&Uuid::NAMESPACE_OID, &[of, &mixed].concat())
        };
        let workflow = (n as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) as usize % 400 + n / 100_000 * 400;
        let id = Uuid::now_v7().to_string();
        let bom = scattered(workflow, b"bom");
        let tenant = scattered(workflow % 40, b"tenant");
        let state = format!(
            r#"{{"status":"running","current_stage":"enrichment","total_items":500,"completed_items":{},"failed_items":3,"percent":{}}}"#,
            n % 500,
            n % 100
        );
        // A catalogue of 50,000 parts: what belongs to a part comes again with it, stock and price do not.
        let part = (n as u64).wrapping_mul(0xd134_2543_de82_ef95) as usize % 50_000;
        let payload = format!(
            r#"{{"mpn":"C{part:05}-{}","status":"matched","confidence":0.{:03},"supplier":"{}","match_details":{{"manufacturer":"Maker {}","description":"Capacitor {part} nF {} V X7R, automotive grade","lifecycle":"{}","stock":{},"price":"{}.{:04}","currency":"EUR"}}}}"#,
            part % 97,
            n % 1000,
            ["DigiKey", "Mouser", "Farnell", "Arrow", "Avnet"][n % 5],
            part % 300,
            part % 63,
            ["active", "nrnd", "obsolete", "preview"][part % 4],
            n.wrapping_mul(7919) % 1_000_000,
            n % 90,
            n.wrapping_mul(31) % 10_000
        );
        let created_at = format!(
            "2026-01-02T{:02}:{:02}:{:02}.{:03}Z",
            n / 3_600_000 % 24,
            n / 60_000 % 60,
            n / 1000 % 60,
            n % 1000
        );
        Event { id, bom, tenant, created_at, state, payload }
    }

    fn body(&self) -> Vec<u8> {
        format!(
            r#"{{"event_id":"{}","event_type":"enrichment_progress","bom_id":"{}","tenant_id":"{}","organization_id":"{}","source":"customer","workflow_id":"enrich-bom-{}","state":{},"payload":{},"created_at":"{}"}}"#,
            self.id, self.bom, self.tenant, self.tenant, self.bom, self.state, self.payload, self.created_at
        )
        .into_bytes()
    }

    /// A line of COPY's text format; nothing in these events has to be escaped.
    fn line(&self, out: &mut String) {
        use std::fmt::Write as _;
        writeln!(
            out,
            "{}\t{}\tenrichment_progress\tcns.enrichment.progress\t{}\t{}\t{}\t\\N\t\\N\tcustomer\tenrich-bom-{}\t{}\t{}\t{}",
            Uuid::now_v7(), self.id, self.bom, self.tenant, self.tenant, self.bom, self.state, self.payload, self.created_at
        )
        .unwrap();
    }
}

/// What one round measured.
struct Round {
    copy_per_s: f64,
    drain_per_s: f64,
    cpu_us: f64,
    peak_mib: f64,
    rows_per_batch: f64,
}

#[tokio::main]
async fn main() {
    let options = Options::parse();
    let amqp = std::env::var("AMQP_URL").expect("AMQP_URL is not set: eval \"$(make -s env)\"");
    let database = std::env::var("DATABASE_URL").expect("DATABASE_URL is not set: eval \"$(make -s env)\"");
    let stand = Stand::build(&amqp, &database).await;
    let mut rounds = Vec::new();
    for number in 1..=options.rounds {
        let events: Vec<Event> = (0..options.events).map(Event::number).collect();
        let bytes = events.iter().map(|event| event.body().len()).sum::<usize>() / events.len();
        // Alternating, so that a machine whose speed drifts treats both alike.
        let copy_per_s = stand.copy(&events).await;
        let round = stand.drain(&events, options.queue, copy_per_s).await;
        if !options.json {
            println!(
                "round {number}: {bytes} bytes an event; COPY {:>6.0}/s, drain {:>6.0}/s = {:.2} of COPY; worker {:.1} µs CPU an event, {:.0} MiB peak, {:.0} rows a batch",
                round.copy_per_s,
                round.drain_per_s,
                round.drain_per_s / round.copy_per_s,
                round.cpu_us,
                round.peak_mib,
                round.rows_per_batch
            );
        }
        rounds.push(round);
    }
    stand.tear_down().await;
    let median = |value: fn(&Round) -> f64| {
        let mut values: Vec<f64> = rounds.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let ratio = median(|round| round.drain_per_s / round.copy_per_s);
    if options.json {
        println!(
            "{}",
            json!({
                "events": options.events, "rounds": options.rounds,
                "copy_per_second": median(|round| round.copy_per_s), "drain_per_second": median(|round| round.drain_per_s),
                "drain_to_copy": ratio, "worker_cpu_microseconds_per_event": median(|round| round.cpu_us),
                "worker_peak_mib": median(|round| round.peak_mib), "rows_per_batch": median(|round| round.rows_per_batch),
            })
        );
    } else {
        println!(
            "median of {}: the worker drains at {ratio:.2} of COPY from two connections",
            options.rounds
        );
    }
}

/// A database and names on the broker of this run's own.
struct Stand {
    amqp: String,
    admin: String,
    database: String,
    name: String,
}

impl Stand {
    async fn build(amqp: &str, admin: &str) -> Stand {
        let name = format!("cns_drain_{}", std::process::id());
        connect(admin)
            .await
            .batch_execute(&format!("create database {name}"))
            .await
            .expect("create database");
        let (server, _) = admin.rsplit_once('/').expect("a database URL has a database");
        let stand = Stand {
            amqp: amqp.to_owned(),
            admin: admin.to_owned(),
            database: format!("{server}/{name}"),
            name,
        };
        assert!(
            stand.command(Queue::Quorum).arg("migrate").stdout(Stdio::null()).status().unwrap().success()
        );
        stand
    }

    fn command(&self, queue: Queue) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cns-events"));
        let name = |what: &str| format!("{}.{what}", self.name);
        command
            .env("CNS_EVENTS__AMQP__URI", &self.amqp)
            .env("CNS_EVENTS__DATABASE__URL", &self.database)
            .env("CNS_EVENTS__AMQP__EXCHANGE", name("events"))
            .env("CNS_EVENTS__AMQP__QUEUE", name("persist"))
            .env("CNS_EVENTS__AMQP__DEAD_LETTER_EXCHANGE", name("dlx"))
            .env("CNS_EVENTS__AMQP__DEAD_LETTER_QUEUE", name("dead"))
            .env("CNS_EVENTS__AMQP__QUEUE_TYPE", if queue == Queue::Quorum { "quorum" } else { "classic" })
            .env("CNS_EVENTS__AMQP__MAX_PRIORITY", if queue == Queue::Priority { "10" } else { "0" });
        command
    }

    /// COPY from two connections; rows a second.
    async fn copy(&self, events: &[Event]) -> f64 {
        self.empty().await;
        let chunks: Vec<Bytes> = events
            .chunks(CHUNK)
            .map(|chunk| {
                let mut text = String::new();
                chunk.iter().for_each(|event| event.line(&mut text));
                Bytes::from(text)
            })
            .collect();
        let (left, right) = chunks.split_at(chunks.len() / 2);
        let clients = (connect(&self.database).await, connect(&self.database).await);
        let started = Instant::now();
        tokio::join!(copy_chunks(&clients.0, left), copy_chunks(&clients.1, right));
        events.len() as f64 / started.elapsed().as_secs_f64()
    }

    async fn drain(&self, events: &[Event], queue: Queue, copy_per_s: f64) -> Round {
        self.empty().await;
        // A short-lived worker declares the topology; its queue is then filled with nobody consuming.
        let mut declaring = self.worker(queue, 0);
        let connection = Connection::connect(&self.amqp, ConnectionProperties::default()).await.unwrap();
        declaring.wait_for("/readyz", |text| text.contains("true")).await;
        declaring.stop();
        let channel = connection.create_channel().await.unwrap();
        self.fill(&channel, events).await;

        let mut worker = self.worker(queue, 1);
        let total = events.len() as f64;
        worker
            .wait_for("/metrics", |text| {
                figure(text, r#"cns_events_stored_total{event_type="enrichment_progress"}"#) >= total
            })
            .await;
        let text = worker.get("/metrics").unwrap();
        let (cpu_us, peak_mib) = worker.usage();
        worker.stop();
        let rows_per_batch =
            figure(&text, "cns_events_batch_rows_sum") / figure(&text, "cns_events_batch_rows_count");
        let client = connect(&self.database).await;
        let row = client
            .query_one(
                "select extract(epoch from max(at) - min(at))::float8, (count(*) filter (where at > first))::float8 \
                 from (select pg_xact_commit_timestamp(xmin) as at, min(pg_xact_commit_timestamp(xmin)) over () as first \
                 from enrichment_events) as commits",
                &[],
            )
            .await
            .expect("track_commit_timestamp has to be on");
        let (seconds, rows): (f64, f64) = (row.get(0), row.get(1));
        self.remove_queues(&connection).await;
        Round { copy_per_s, drain_per_s: rows / seconds, cpu_us: cpu_us / total, peak_mib, rows_per_batch }
    }

    async fn fill(&self, channel: &Channel, events: &[Event]) {
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        for chunk in events.chunks(5000) {
            let mut confirms = Vec::new();
            for event in chunk {
                let properties = lapin::BasicProperties::default()
                    .with_delivery_mode(2)
                    .with_priority(4)
                    .with_content_type("application/json".into())
                    .with_message_id(event.id.as_str().into())
                    .with_type("enrichment_progress".into());
                let exchange = format!("{}.events", self.name);
                confirms.push(
                    channel
                        .basic_publish(
                            exchange.into(),
                            "cns.enrichment.progress".into(),
                            BasicPublishOptions::default(),
                            &event.body(),
                            properties,
                        )
                        .await
                        .unwrap(),
                );
            }
            for confirm in confirms {
                assert!(confirm.await.unwrap().is_ack());
            }
        }
    }

    async fn empty(&self) {
        let client = connect(&self.database).await;
        client.batch_execute("truncate enrichment_events; checkpoint").await.unwrap();
    }

    fn worker(&self, queue: Queue, number: u16) -> Worker {
        let port = 30_000 + (std::process::id() % 1000) as u16 * 2 + number;
        let child = self
            .command(queue)
            .env("CNS_EVENTS__HTTP__LISTEN", format!("127.0.0.1:{port}"))
            .env("CNS_EVENTS__LOG__LEVEL", "warn")
            .arg("worker")
            .spawn()
            .expect("the worker starts");
        Worker { child, port }
    }

    async fn remove_queues(&self, connection: &Connection) {
        let channel = connection.create_channel().await.unwrap();
        for queue in ["persist", "dead"] {
            let name = format!("{}.{queue}", self.name);
            channel.queue_delete(name.into(), QueueDeleteOptions::default()).await.unwrap();
        }
        for exchange in ["events", "dlx"] {
            let name = format!("{}.{exchange}", self.name);
            channel.exchange_delete(name.into(), ExchangeDeleteOptions::default()).await.unwrap();
        }
    }

    async fn tear_down(&self) {
        let client = connect(&self.admin).await;
        client.batch_execute(&format!("drop database {} with (force)", self.name)).await.unwrap();
    }
}

struct Worker {
    child: Child,
    port: u16,
}

impl Worker {
    fn get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        Some(text)
    }

    async fn wait_for(&mut self, path: &str, good: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + Duration::from_secs(600);
        while !self.get(path).is_some_and(|text| good(&text)) {
            assert!(self.child.try_wait().unwrap().is_none(), "the worker ended");
            assert!(Instant::now() < deadline, "the worker is not done after ten minutes");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// CPU in microseconds and peak memory in MiB.
    fn usage(&self) -> (f64, f64) {
        let proc = |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", self.child.id())).unwrap();
        let stat = proc("stat");
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        // utime and stime, in ticks of 10 ms (USER_HZ is 100 on every Linux there is).
        let ticks: f64 = fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap();
        let status = proc("status");
        let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
        (ticks * 10_000.0, peak.split_whitespace().nth(1).unwrap().parse::<f64>().unwrap() / 1024.0)
    }

    fn stop(&mut self) {
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
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

async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("the database answers");
    tokio::spawn(connection);
    client
}

/// The value of one line of the text format.
fn figure(text: &str, name: &str) -> f64 {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
    value.unwrap_or_default()
}
