//! A test's database and names.

use std::path::{Path, PathBuf};
use std::process::Command;

use lapin::options::ConfirmSelectOptions;
use lapin::{Channel, Connection, ConnectionProperties};
use tokio_postgres::Client;
use uuid::Uuid;

use super::database::{connect, create_empty, create_migrated, drop_database};
use super::services::{amqp_url, database_url, on_database};
use super::{Launcher, Worker, broker, eventually};

/// Longest `test` part of a name: with the id, and `_login` for a role, it has to fit PostgreSQL's 63 bytes.
const LONGEST_TEST_NAME: usize = 20;

/// A test's own database and broker names. Both are removed when it is dropped.
pub struct TestEnv {
    /// Name of the database; exchanges, queues and the login have it as a prefix.
    pub name: String,
    /// URL of the database, as its owner.
    pub database_url: String,
    /// Connection to the database, as its owner.
    pub sql: Client,
    /// Channel with confirms.
    pub channel: Channel,
    pub(super) connection: Connection,
    logs: PathBuf,
}

impl TestEnv {
    /// Creates an environment whose database has the schema of the migrations.
    pub async fn new(test: &str) -> TestEnv {
        let name = unique_name(test);
        let (broker, ()) = tokio::join!(connect_broker(), create_migrated(&name));
        TestEnv::with(name, broker).await
    }

    /// Creates an environment with an empty database.
    pub async fn empty(test: &str) -> TestEnv {
        let name = unique_name(test);
        let (broker, ()) = tokio::join!(connect_broker(), create_empty(&name));
        TestEnv::with(name, broker).await
    }

    async fn with(name: String, (connection, channel): (Connection, Channel)) -> TestEnv {
        let database_url = on_database(&database_url(), &name);
        let logs = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(&name);
        std::fs::create_dir_all(&logs).unwrap();
        TestEnv { sql: connect(&database_url).await, name, database_url, channel, connection, logs }
    }

    /// Returns the name of the events' exchange.
    pub fn exchange(&self) -> String {
        format!("{}.events", self.name)
    }

    /// Returns the name of the worker's queue.
    pub fn queue(&self) -> String {
        format!("{}.persist", self.name)
    }

    /// Returns the name of the dead-letter queue.
    pub fn dead_letter_queue(&self) -> String {
        format!("{}.dead", self.name)
    }

    /// Returns the binary, configured for this environment.
    pub fn command(&self) -> Command {
        self.launcher().command()
    }

    /// Creates a login of this test's own; returns its name and the database's URL as that login.
    pub async fn login(&self, attributes: &str) -> (String, String) {
        let login = format!("{}_login", self.name);
        let make = format!("create role {login} login password 'p' {attributes}");
        self.sql.batch_execute(&make).await.unwrap();
        let mut url = url::Url::parse(&self.database_url).unwrap();
        url.set_username(&login).unwrap();
        url.set_password(Some("p")).unwrap();
        (login, url.to_string())
    }

    /// Drops a login, once its connections are closed.
    pub async fn drop_login(&self, login: &str) {
        let drop = format!("drop owned by {login} cascade; drop role {login}");
        eventually("the login is dropped", async || self.sql.batch_execute(&drop).await.is_ok()).await;
    }

    /// Returns the folder of its workers' logs.
    pub fn logs(&self) -> &Path {
        &self.logs
    }

    /// Returns a launcher of processes of this environment, for callers that cannot keep the environment itself.
    pub fn launcher(&self) -> Launcher {
        Launcher::new(&self.name, self.database_url.clone())
    }

    /// Starts a worker process; `change` may set more of its environment.
    pub fn start(&self, change: impl FnOnce(&mut Command)) -> Worker {
        self.launcher().start(change)
    }

    /// Starts a worker and waits until it is ready.
    pub async fn worker(&self) -> Worker {
        let worker = self.start(|_| {});
        worker.ready().await;
        worker
    }

    /// Declares the worker's topology, for tests that publish before a worker runs.
    pub async fn declare(&self) {
        let mut worker = self.worker().await;
        assert!(worker.terminate().await.success());
    }

    /// Returns the number of stored events.
    pub async fn rows(&self) -> i64 {
        self.number("select count(*) from enrichment_events").await
    }

    /// Returns the number that a query gives.
    pub async fn number(&self, sql: &str) -> i64 {
        self.sql.query_one(sql, &[]).await.unwrap().get(0)
    }
}

impl Drop for TestEnv {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("logs of this test's workers: {}", self.logs.display());
            return; // database and queues stay: they help to find the cause
        }
        let _ = std::fs::remove_dir_all(&self.logs);
        let name = self.name.clone();
        // Dropping cannot wait on this runtime, so another does it.
        let removal = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { tokio::join!(drop_database(&name), broker::delete_topology(&name)) })
        });
        let _ = removal.join();
    }
}

/// Opens a connection and a channel with confirms.
async fn connect_broker() -> (Connection, Channel) {
    let connection = Connection::connect(&amqp_url(), ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
    (connection, channel)
}

/// Returns a name that tells the test and, by its id, the time: stale ones are found by it.
fn unique_name(test: &str) -> String {
    assert!(test.len() <= LONGEST_TEST_NAME, "{test}: longer than {LONGEST_TEST_NAME}");
    format!("cns_{test}_{}", Uuid::now_v7().simple())
}
