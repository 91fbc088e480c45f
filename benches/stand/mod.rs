//! What the benchmarks of the worker stand on: events, a database and a queue of a run's own, and worker processes.

#![allow(dead_code)] // not every benchmark needs all of it

pub mod process;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use clap::ValueEnum;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, ExchangeDeleteOptions, QueueDeleteOptions};
use lapin::{Channel, Connection, ConnectionProperties, PublisherConfirm};
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

/// How long anything may take. Only a failing run waits that long.
pub const PATIENCE: Duration = Duration::from_secs(600);

/// The kind of queue.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub enum Queue {
    Quorum,
    Classic,
    /// Classic with ten priorities
    Priority,
}

impl Queue {
    pub fn name(self) -> &'static str {
        match self {
            Queue::Quorum => "quorum",
            Queue::Classic => "classic",
            Queue::Priority => "priority",
        }
    }
}

/// One event of about 760 bytes.
pub struct Event {
    pub id: String,
    bom: Uuid,
    tenant: Uuid,
    created_at: String,
    pub state: String,
    pub payload: String,
}

impl Event {
    pub fn number(n: usize) -> Event {
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

    /// The same event, made now.
    pub fn now(self) -> Event {
        Event { created_at: chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Micros, true), ..self }
    }

    pub fn body(&self) -> Vec<u8> {
        format!(
            r#"{{"event_id":"{}","event_type":"enrichment_progress","bom_id":"{}","tenant_id":"{}","organization_id":"{}","source":"customer","workflow_id":"enrich-bom-{}","state":{},"payload":{},"created_at":"{}"}}"#,
            self.id, self.bom, self.tenant, self.tenant, self.bom, self.state, self.payload, self.created_at
        )
        .into_bytes()
    }

    /// A line of COPY's text format; nothing in these events has to be escaped.
    pub fn line(&self, out: &mut String) {
        use std::fmt::Write as _;
        writeln!(
            out,
            "{}\t{}\tenrichment_progress\tcns.enrichment.progress\t{}\t{}\t{}\t\\N\t\\N\tcustomer\tenrich-bom-{}\t{}\t{}\t{}",
            Uuid::now_v7(), self.id, self.bom, self.tenant, self.tenant, self.bom, self.state, self.payload, self.created_at
        )
        .unwrap();
    }
}

/// A database and names on the broker of this run's own.
pub struct Stand {
    pub amqp: String,
    admin: String,
    pub database: String,
    /// The same as a login that may do what a worker has to and nothing else: row-level security is for it, too.
    pub worker_database: String,
    pub name: String,
}

impl Stand {
    /// Of the servers that AMQP_URL and DATABASE_URL name.
    pub async fn build(bench: &str) -> Stand {
        let url = |name: &str| {
            std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: eval \"$(make -s env)\""))
        };
        let (amqp, admin) = (url("AMQP_URL"), url("DATABASE_URL"));
        let name = format!("cns_{bench}_{}", std::process::id());
        let client = connect(&admin).await;
        client.batch_execute(&format!("create database {name}")).await.expect("create database");
        let mut database = url::Url::parse(&admin).expect("DATABASE_URL is a URL");
        database.set_path(&name);
        let mut worker = database.clone();
        worker
            .set_username(&name)
            .and_then(|()| worker.set_password(Some(&name)))
            .expect("DATABASE_URL has a server");
        let stand = Stand {
            database: database.into(),
            worker_database: worker.into(),
            amqp,
            admin,
            name: name.clone(),
        };
        assert!(
            stand.command(Queue::Quorum).arg("migrate").stdout(Stdio::null()).status().unwrap().success()
        );
        let login = format!("create role {name} login password '{name}' in role service_role");
        client.batch_execute(&login).await.expect("create role");
        stand
    }

    /// The command, or another program that runs it: that of CNS_EVENTS_UNDER, a profiler.
    pub fn command(&self, queue: Queue) -> Command {
        let binary = env!("CARGO_BIN_EXE_cns-events");
        let under = std::env::var("CNS_EVENTS_UNDER").unwrap_or_default();
        let mut words = under.split_whitespace().chain([binary]);
        let mut command = Command::new(words.next().unwrap_or(binary));
        command.args(words);
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

    /// A short-lived worker declares the topology; its queue can then be filled with nobody consuming.
    pub async fn declare(&self, queue: Queue) {
        let mut declaring = self.worker(queue, 0, &self.worker_database);
        declaring.wait_for("/readyz", |text| text.contains("true")).await;
        declaring.stop();
    }

    /// A channel, and the connection that it ends with.
    pub async fn channel(&self) -> lapin::Result<(Connection, Channel)> {
        let connection = Connection::connect(&self.amqp, ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        Ok((connection, channel))
    }

    /// Publishes with confirms.
    pub async fn fill(&self, channel: &Channel, events: &[Event]) {
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        for chunk in events.chunks(5000) {
            let mut confirms = Vec::new();
            for event in chunk {
                confirms.push(self.publish(channel, event).await);
            }
            for confirm in confirms {
                assert!(confirm.await.unwrap().is_ack());
            }
        }
    }

    pub async fn publish(&self, channel: &Channel, event: &Event) -> PublisherConfirm {
        let properties = lapin::BasicProperties::default()
            .with_delivery_mode(2)
            .with_priority(4)
            .with_content_type("application/json".into())
            .with_message_id(event.id.as_str().into())
            .with_type("enrichment_progress".into());
        let (exchange, key) = (format!("{}.events", self.name), "cns.enrichment.progress");
        let options = BasicPublishOptions::default();
        channel.basic_publish(exchange.into(), key.into(), options, &event.body(), properties).await.unwrap()
    }

    pub async fn empty(&self) {
        let client = connect(&self.database).await;
        client.batch_execute("truncate enrichment_events; checkpoint").await.unwrap();
    }

    /// A worker that reaches the database by this URL.
    pub fn worker(&self, queue: Queue, number: u16, database: &str) -> Worker {
        let port = 30_000 + (std::process::id() % 500) as u16 * 8 + number;
        let child = self
            .command(queue)
            .env("CNS_EVENTS__DATABASE__URL", database)
            .env("CNS_EVENTS__HTTP__LISTEN", format!("127.0.0.1:{port}"))
            .env("CNS_EVENTS__LOG__LEVEL", "warn")
            .arg("worker")
            .spawn()
            .expect("the worker starts");
        Worker { child, port }
    }

    /// RabbitMQ 3.10 now and then fails to delete a quorum queue whose consumer has just left, and the connection with it: a
    /// later try finds the queue gone, or deletes it.
    #[allow(clippy::print_stderr)]
    pub async fn remove_queues(&self) {
        for _ in 0..5 {
            match self.try_remove_queues().await {
                Ok(()) => return,
                Err(error) => eprintln!("the queues are not gone yet: {error}"),
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        panic!("the queues cannot be deleted");
    }

    async fn try_remove_queues(&self) -> lapin::Result<()> {
        let (connection, channel) = self.channel().await?;
        for queue in ["persist", "dead"] {
            let name = format!("{}.{queue}", self.name);
            channel.queue_delete(name.into(), QueueDeleteOptions::default()).await?;
        }
        for exchange in ["events", "dlx"] {
            let name = format!("{}.{exchange}", self.name);
            channel.exchange_delete(name.into(), ExchangeDeleteOptions::default()).await?;
        }
        connection.close(200, "done".into()).await
    }

    pub async fn tear_down(&self) {
        let client = connect(&self.admin).await;
        client.batch_execute(&format!("drop database {} with (force)", self.name)).await.unwrap();
        client.batch_execute(&format!("drop role {}", self.name)).await.unwrap();
    }
}

pub struct Worker {
    pub child: Child,
    port: u16,
}

/// A run that failed leaves no worker behind.
impl Drop for Worker {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Worker {
    pub fn get(&self, path: &str) -> Option<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        Some(text)
    }

    pub async fn wait_for(&mut self, path: &str, good: impl Fn(&str) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !self.get(path).is_some_and(|text| good(&text)) {
            assert!(self.child.try_wait().unwrap().is_none(), "the worker ended");
            assert!(Instant::now() < deadline, "the worker is not done after ten minutes");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    pub fn stop(&mut self) {
        if self.child.try_wait().is_ok_and(|ended| ended.is_some()) {
            return;
        }
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

pub async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("the database answers");
    tokio::spawn(connection);
    client
}

/// The value of one line of the text format.
pub fn figure(text: &str, name: &str) -> f64 {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
    value.unwrap_or_default()
}

/// Events a second, by the table's commit timestamps, first commit to last, of the rows whose ids come after `since`.
pub async fn commits(client: &Client, since: Uuid) -> f64 {
    let row = client
        .query_one(
            "select extract(epoch from max(at) - min(at))::float8, (count(*) filter (where at > first))::float8 \
             from (select pg_xact_commit_timestamp(xmin) as at, min(pg_xact_commit_timestamp(xmin)) over () as first \
             from enrichment_events where id > $1) as commits",
            &[&since],
        )
        .await
        .expect("track_commit_timestamp has to be on");
    let (seconds, rows): (f64, f64) = (row.get(0), row.get(1));
    rows / seconds
}

/// The same in the middle of a drain, from the tenth part of the rows to the ninth: without how workers start, and how they run
/// dry one after the other.
pub async fn steady(client: &Client) -> f64 {
    let row = client
        .query_one(
            "with commits as (select pg_xact_commit_timestamp(xmin) as at from enrichment_events), \
             ends as (select percentile_disc(0.1) within group (order by at) as first, \
             percentile_disc(0.9) within group (order by at) as last from commits) \
             select extract(epoch from last - first)::float8, \
             (select count(*) from commits where at > first and at <= last)::float8 from ends",
            &[],
        )
        .await
        .expect("track_commit_timestamp has to be on");
    let (seconds, rows): (f64, f64) = (row.get(0), row.get(1));
    rows / seconds
}

/// The middle one; of an even number, the upper of the two.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
