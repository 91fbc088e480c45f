//! What every test stands on: a database, names on the broker, and worker processes.

#![allow(dead_code)] // not every program uses all of it

pub mod http;
pub mod relay;
pub mod tokens;

use std::future::Future;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use lapin::message::BasicGetMessage;
use lapin::options::{
    BasicAckOptions, BasicGetOptions, BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions,
    ExchangeDeleteOptions, QueueBindOptions, QueueDeclareOptions, QueueDeleteOptions,
};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties, ExchangeKind};
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

/// How long anything may take here. Only a failing test waits that long.
pub const TIMEOUT: Duration = Duration::from_secs(90);

/// Waits until `condition` holds. A pause between two questions is all that it sleeps for: other processes are
/// asked, which send no signal.
pub async fn eventually<F: Future<Output = bool>>(what: &str, mut condition: impl FnMut() -> F) {
    let deadline = Instant::now() + TIMEOUT;
    while !condition().await {
        assert!(Instant::now() < deadline, "waited {TIMEOUT:?} in vain until {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub fn amqp_url() -> String {
    std::env::var("AMQP_URL").expect("AMQP_URL is not set: run the tests by `make test`")
}

pub fn database_url() -> String {
    std::env::var("DATABASE_URL").expect("DATABASE_URL is not set: run the tests by `make test`")
}

/// Whether AMQP_URL is the private broker's, which may be tormented; where it is unset, nobody has another.
#[allow(dead_code)] // not every test torments
pub fn servers_are_private() -> bool {
    let Ok(url) = std::env::var("AMQP_URL") else { return true };
    let private = Command::new("scripts/services").arg("env").env_remove("AMQP_URL").output().unwrap();
    String::from_utf8_lossy(&private.stdout).contains(&url)
}

pub async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("the database answers");
    tokio::spawn(connection);
    client
}

/// A test's own database and names. Both go when it is dropped.
pub struct TestEnv {
    pub name: String,
    pub database_url: String,
    pub sql: Client,
    pub channel: Channel,
    connection: Connection,
    logs: PathBuf,
}

impl TestEnv {
    /// With the schema in place.
    pub async fn new(test: &str) -> TestEnv {
        let env = TestEnv::empty(test).await;
        env.command()
            .arg("migrate")
            .stdout(Stdio::null())
            .status()
            .expect("migrate runs")
            .success()
            .then_some(())
            .unwrap();
        env
    }

    /// With an empty database.
    pub async fn empty(test: &str) -> TestEnv {
        let name = format!("cns_{test}_{}", Uuid::new_v4().simple());
        let name = name[..name.len().min(60)].to_owned();
        connect(&database_url()).await.batch_execute(&format!("create database {name}")).await.unwrap();
        let database_url = on_database(&database_url(), &name);
        let connection = Connection::connect(&amqp_url(), ConnectionProperties::default()).await.unwrap();
        let channel = connection.create_channel().await.unwrap();
        channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
        let logs = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(&name);
        std::fs::create_dir_all(&logs).unwrap();
        TestEnv { sql: connect(&database_url).await, name, database_url, channel, connection, logs }
    }

    pub fn exchange(&self) -> String {
        format!("{}.events", self.name)
    }

    pub fn queue(&self) -> String {
        format!("{}.persist", self.name)
    }

    pub fn dead(&self) -> String {
        format!("{}.dead", self.name)
    }

    /// The binary, configured for this stand.
    pub fn command(&self) -> Command {
        self.launcher().command()
    }

    /// A login of this test's own, and the URL of the database as that login.
    pub async fn login(&self, attributes: &str) -> (String, String) {
        let login = format!("{}_login", self.name);
        let make = format!("create role {login} login password 'p' {attributes}");
        self.sql.batch_execute(&make).await.unwrap();
        let mut url = url::Url::parse(&self.database_url).unwrap();
        url.set_username(&login).unwrap();
        url.set_password(Some("p")).unwrap();
        (login, url.to_string())
    }

    /// Drops a login, once its connections are gone.
    pub async fn drop_login(&self, login: &str) {
        let drop = format!("drop owned by {login} cascade; drop role {login}");
        eventually("the login is gone", async || self.sql.batch_execute(&drop).await.is_ok()).await;
    }

    /// Where its workers' logs are.
    #[allow(dead_code)] // not every test asks
    pub fn logs(&self) -> &std::path::Path {
        &self.logs
    }

    /// What starts workers of this stand, for those who cannot keep hold of the stand.
    pub fn launcher(&self) -> Launcher {
        Launcher { name: self.name.clone(), database_url: self.database_url.clone(), logs: self.logs.clone() }
    }

    /// A worker process; `change` may set more of its environment.
    pub fn start(&self, change: impl FnOnce(&mut Command)) -> Worker {
        self.launcher().start(change)
    }

    /// A worker that is ready.
    pub async fn worker(&self) -> Worker {
        let worker = self.start(|_| {});
        worker.ready().await;
        worker
    }

    /// Declares what a worker declares, for tests that publish before one runs.
    pub async fn declare(&self) {
        let mut worker = self.worker().await;
        assert!(worker.terminate().await.success());
    }

    pub async fn publish(&self, body: &[u8]) {
        self.publish_with(body, "cns.test", BasicProperties::default()).await;
    }

    pub async fn publish_with(&self, body: &[u8], key: &str, properties: BasicProperties) {
        let exchange = self.exchange();
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let confirm = self
            .channel
            .basic_publish(exchange.into(), key.into(), options, body, properties.with_delivery_mode(2))
            .await
            .unwrap()
            .await
            .unwrap();
        assert!(confirm.is_ack() && confirm.take_message().is_none(), "the message was not routed");
    }

    /// Publishes without waiting for the confirm.
    pub async fn publish_later(&self, body: Vec<u8>, key: &str, properties: BasicProperties) {
        let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
        let exchange = self.exchange().into();
        let properties = properties.with_delivery_mode(2);
        drop(self.channel.basic_publish(exchange, key.into(), options, &body, properties).await.unwrap());
    }

    /// Waits for the confirms of everything that was published.
    pub async fn confirmed(&self) {
        let returned = self.channel.wait_for_confirms().await.unwrap();
        assert!(returned.is_empty(), "{} messages were not routed", returned.len());
    }

    /// Publishes many, and waits for the broker's confirms of all.
    pub async fn publish_all(&self, bodies: &[String]) {
        for chunk in bodies.chunks(2000) {
            let mut confirms = Vec::new();
            for body in chunk {
                let confirm = self.channel.basic_publish(
                    self.exchange().into(),
                    "cns.test".into(),
                    BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() },
                    body.as_bytes(),
                    BasicProperties::default().with_delivery_mode(2),
                );
                confirms.push(confirm.await.unwrap());
            }
            for confirm in confirms {
                let confirm = confirm.await.unwrap();
                assert!(confirm.is_ack() && confirm.take_message().is_none());
            }
        }
    }

    pub async fn rows(&self) -> i64 {
        self.number("select count(*) from enrichment_events").await
    }

    pub async fn number(&self, sql: &str) -> i64 {
        self.sql.query_one(sql, &[]).await.unwrap().get(0)
    }

    /// Messages ready in a queue, and its consumers.
    pub async fn depth(&self, queue: &str) -> (u32, u32) {
        let channel = self.connection.create_channel().await.unwrap();
        let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let queue = channel.queue_declare(queue.into(), passive, FieldTable::default()).await.unwrap();
        let depth = (queue.message_count(), queue.consumer_count());
        channel.close(200, "done".into()).await.unwrap();
        depth
    }

    /// Takes the next dead letter.
    pub async fn dead_letter(&self) -> BasicGetMessage {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            if let Some(letter) =
                self.channel.basic_get(self.dead().into(), BasicGetOptions::default()).await.unwrap()
            {
                letter.acker.ack(BasicAckOptions::default()).await.unwrap();
                return letter;
            }
            assert!(Instant::now() < deadline, "no dead letter came");
            // The broker is asked, which sends no signal.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// A classic queue under the exchange, as somebody else might have made it.
    pub async fn foreign_queue(&self) {
        let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
        let exchange = self.exchange();
        self.channel
            .exchange_declare(exchange.as_str().into(), ExchangeKind::Topic, durable, FieldTable::default())
            .await
            .unwrap();
        let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
        self.channel.queue_declare(self.queue().into(), options, FieldTable::default()).await.unwrap();
        let bind = self.channel.queue_bind(
            self.queue().into(),
            exchange.into(),
            "cns.#".into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        );
        bind.await.unwrap();
    }
}

/// See [`TestEnv::launcher`].
pub struct Launcher {
    name: String,
    database_url: String,
    logs: PathBuf,
}

impl Launcher {
    fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cns-events"));
        command
            .env_remove("AMQP_URL")
            .env_remove("DATABASE_URL")
            .env("CNS_EVENTS__AMQP__URI", amqp_url())
            .env("CNS_EVENTS__DATABASE__URL", &self.database_url)
            .env("CNS_EVENTS__AMQP__EXCHANGE", format!("{}.events", self.name))
            .env("CNS_EVENTS__AMQP__QUEUE", format!("{}.persist", self.name))
            .env("CNS_EVENTS__AMQP__DEAD_LETTER_EXCHANGE", format!("{}.dlx", self.name))
            .env("CNS_EVENTS__AMQP__DEAD_LETTER_QUEUE", format!("{}.dead", self.name))
            .env("CNS_EVENTS__HTTP__LISTEN", "127.0.0.1:0")
            .env("CNS_EVENTS__LOG__FORMAT", "json");
        command
    }

    pub fn start(&self, change: impl FnOnce(&mut Command)) -> Worker {
        self.run("worker", change)
    }

    /// A process that serves its metrics and logs: `worker` or `serve`.
    pub fn run(&self, command: &str, change: impl FnOnce(&mut Command)) -> Worker {
        let name = command;
        let log = self.logs.join(format!("{}.log", Uuid::now_v7()));
        let mut command = self.command();
        command.arg(name).stdout(Stdio::null()).stderr(std::fs::File::create(&log).unwrap());
        change(&mut command);
        Worker { child: command.spawn().unwrap(), log }
    }
}

impl Drop for TestEnv {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("logs of this test's workers: {}", self.logs.display());
            return; // what is there helps to find out why
        }
        let _ = std::fs::remove_dir_all(&self.logs);
        let (name, exchanges) = (self.name.clone(), [self.exchange(), format!("{}.dlx", self.name)]);
        let queues = [self.queue(), self.dead()];
        // Dropping cannot wait on this runtime, so another does it.
        let cleaning = std::thread::spawn(move || {
            tokio::runtime::Runtime::new().unwrap().block_on(async {
                let drop = format!("drop database if exists {name} with (force)");
                let _ = connect(&database_url()).await.batch_execute(&drop).await;
                let connection =
                    Connection::connect(&amqp_url(), ConnectionProperties::default()).await.unwrap();
                for queue in queues {
                    let channel = connection.create_channel().await.unwrap();
                    let _ = channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await;
                }
                for exchange in exchanges {
                    let channel = connection.create_channel().await.unwrap();
                    let _ = channel.exchange_delete(exchange.into(), ExchangeDeleteOptions::default()).await;
                }
            });
        });
        let _ = cleaning.join();
    }
}

/// Messages ready in a queue, asked on a connection of its own; `None` where the broker does not answer.
#[allow(dead_code)] // not every test asks
pub async fn depth_of(queue: &str) -> Option<u32> {
    let connection = Connection::connect(&amqp_url(), ConnectionProperties::default()).await.ok()?;
    let channel = connection.create_channel().await.ok()?;
    let passive = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let queue = channel.queue_declare(queue.into(), passive, FieldTable::default()).await.ok()?;
    let _ = connection.close(200, "done".into()).await;
    Some(queue.message_count())
}

/// The same server, another database.
pub fn on_database(url: &str, name: &str) -> String {
    let (server, old) = url.rsplit_once('/').unwrap();
    match old.split_once('?') {
        Some((_, query)) => format!("{server}/{name}?{query}"),
        None => format!("{server}/{name}"),
    }
}

/// A GET: status and body.
pub fn get(address: SocketAddr, path: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let status = answer.split(' ').nth(1)?.parse().ok()?;
    Some((status, answer.split_once("\r\n\r\n")?.1.to_owned()))
}

/// The value of a metric, 0 where it is not there.
pub fn metric_value(address: SocketAddr, name: &str) -> f64 {
    let text = get(address, "/metrics").map(|(_, text)| text).unwrap_or_default();
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
    value.unwrap_or_default()
}

/// A worker process, or another that serves metrics and health. It is killed when it is dropped.
pub struct Worker {
    pub child: Child,
    log: PathBuf,
}

impl Worker {
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Where it serves metrics and health (`http`), or the read API (`api`), once it says so.
    pub fn address(&self, of: &str) -> Option<SocketAddr> {
        let log = self.log();
        let (_, rest) = log.split_once(&format!(r#""{of}":""#))?;
        rest.split_once('"')?.0.parse().ok()
    }

    /// A GET of its own HTTP server: status and body.
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        get(self.address("http")?, path)
    }

    /// The value of a metric, 0 where it is not there.
    pub fn metric_value(&self, name: &str) -> f64 {
        self.address("http").map_or(0.0, |address| metric_value(address, name))
    }

    /// Bytes in memory (resident).
    #[allow(dead_code)] // not every test asks
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.unwrap_or_default() * 1024
    }

    pub async fn ready(&self) {
        eventually("the worker is ready", async || {
            self.get("/readyz").is_some_and(|(status, _)| status == 200)
        })
        .await;
    }

    /// SIGTERM, and how it ended.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal("-TERM");
        self.ended().await
    }

    pub fn signal(&self, signal: &str) {
        Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
    }

    pub async fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the worker does not end");
            tokio::time::sleep(Duration::from_millis(20)).await; // a process that ends sends us no signal
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A good event's body.
pub fn event(id: &str) -> String {
    format!(
        r#"{{"event_id":"{id}","event_type":"cache_hit","bom_id":"6f9619ff-8b86-4d01-b42d-00cf4fc964ff","organization_id":"org-1","source":"customer","workflow_id":"w-1","payload":{{"cache":"parts","key":"{id}"}},"created_at":"2026-01-02T03:04:05Z"}}"#
    )
}

/// A header of a dead letter, as text.
pub fn header(letter: &BasicGetMessage, name: &str) -> Option<String> {
    header_of(&letter.properties, name)
}

/// A header of a message, as text.
pub fn header_of(properties: &BasicProperties, name: &str) -> Option<String> {
    match properties.headers().as_ref()?.inner().get(name)? {
        AMQPValue::LongString(text) => Some(String::from_utf8_lossy(text.as_bytes()).into_owned()),
        other => Some(format!("{other:?}")),
    }
}

/// Whether the bytes of a message's properties hold a header with this text.
pub fn header_bytes(properties: &[u8], name: &str, value: &str) -> bool {
    let mut entry = vec![name.len() as u8];
    entry.extend_from_slice(name.as_bytes());
    entry.push(b'S');
    entry.extend_from_slice(&(value.len() as u32).to_be_bytes());
    entry.extend_from_slice(value.as_bytes());
    properties.windows(entry.len()).any(|window| window == entry)
}
