//! Processes of the program.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::Instant;

use uuid::Uuid;

use super::http::{get, metric_value};
use super::services::amqp_url;
use super::wait::{POLL_INTERVAL, TIMEOUT, eventually};

/// Starts processes with the configuration of one test environment.
pub struct Launcher {
    name: String,
    database_url: String,
    logs: PathBuf,
}

impl Launcher {
    /// Creates a launcher for the broker names with this prefix, and this database.
    pub fn new(name: &str, database_url: String) -> Launcher {
        let logs = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        Launcher { name: name.to_owned(), database_url, logs }
    }

    /// Returns the binary, configured; under the program of `CNS_EVENTS_UNDER` (a profiler) if it is set.
    pub fn command(&self) -> Command {
        let binary = env!("CARGO_BIN_EXE_cns-events");
        let under = std::env::var("CNS_EVENTS_UNDER").unwrap_or_default();
        let mut words = under.split_whitespace().chain([binary]);
        let mut command = Command::new(words.next().unwrap_or(binary));
        command.args(words);
        command
            .env_remove("AMQP_URL")
            .env_remove("DATABASE_URL")
            .env("CNS_EVENTS__AMQP__URI", amqp_url())
            .env("CNS_EVENTS__DATABASE__URL", &self.database_url)
            .env("CNS_EVENTS__AMQP__EXCHANGE", format!("{}.events", self.name))
            .env("CNS_EVENTS__AMQP__QUEUE", format!("{}.persist", self.name))
            .env("CNS_EVENTS__AMQP__DEAD_LETTER_EXCHANGE", format!("{}.dlx", self.name))
            .env("CNS_EVENTS__AMQP__DEAD_LETTER_QUEUE", format!("{}.dead", self.name))
            .env("CNS_EVENTS__AMQP__STORED_EXCHANGE", format!("{}.stored", self.name))
            .env("CNS_EVENTS__HTTP__LISTEN", "127.0.0.1:0")
            .env("CNS_EVENTS__LOG__FORMAT", "json")
            // The tests' login may keep the summaries: a test that wants them says so.
            .env("CNS_EVENTS__AGGREGATE__ENABLED", "never");
        command
    }

    /// Starts a worker; `change` may set more of its environment.
    pub fn start(&self, change: impl FnOnce(&mut Command)) -> Worker {
        self.run("worker", change)
    }

    /// Starts a command that serves metrics and writes logs: `worker`, `serve` or `prune`.
    pub fn run(&self, command: &str, change: impl FnOnce(&mut Command)) -> Worker {
        let name = command;
        let log = self.logs.join(format!("{}.log", Uuid::now_v7()));
        let mut command = self.command();
        command.arg(name).stdout(Stdio::null()).stderr(std::fs::File::create(&log).unwrap());
        change(&mut command);
        Worker { child: command.spawn().unwrap(), log }
    }
}

/// A worker process, or another that serves metrics and health. It is killed when it is dropped.
pub struct Worker {
    pub child: Child,
    log: PathBuf,
}

impl Worker {
    /// Returns the log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Returns the address of metrics and health (`http`) or of the read API (`api`), once the process has logged it.
    pub fn address(&self, of: &str) -> Option<SocketAddr> {
        let log = self.log();
        let (_, rest) = log.split_once(&format!(r#""{of}":""#))?;
        rest.split_once('"')?.0.parse().ok()
    }

    /// Sends a GET to its own HTTP server; returns status and body.
    pub fn get(&self, path: &str) -> Option<(u16, String)> {
        get(self.address("http")?, path)
    }

    /// Returns the value of a metric, 0 where it is absent.
    pub fn metric_value(&self, name: &str) -> f64 {
        self.address("http").map_or(0.0, |address| metric_value(address, name))
    }

    /// Returns the resident memory in bytes.
    pub fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        kib.unwrap_or_default() * 1024
    }

    /// Waits until it is ready.
    pub async fn ready(&self) {
        eventually("the worker is ready", async || {
            self.get("/readyz").is_some_and(|(status, _)| status == 200)
        })
        .await;
    }

    /// Sends SIGTERM and returns the exit status.
    pub async fn terminate(&mut self) -> ExitStatus {
        self.signal("-TERM");
        self.ended().await
    }

    /// Sends a signal, such as `-KILL`.
    pub fn signal(&self, signal: &str) {
        Command::new("kill").args([signal, &self.child.id().to_string()]).status().unwrap();
    }

    /// Waits until it has ended and returns the exit status.
    pub async fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + TIMEOUT;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < deadline, "the process does not end");
            tokio::time::sleep(POLL_INTERVAL).await; // a process that ends sends no signal here
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns what a command printed: standard output, then standard error.
pub fn output_text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}
