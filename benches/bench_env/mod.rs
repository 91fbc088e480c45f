//! The environment of the worker's benchmarks: the test environment, with a worker's login, kinds of queues, events of a
//! realistic size, and figures.

#![allow(dead_code, unused_imports)] // not every benchmark needs all of it

mod event;
pub mod machine;
mod statistics;

use std::process::Command;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, ExchangeDeleteOptions, QueueDeleteOptions};
use lapin::{Channel, Connection, ConnectionProperties, PublisherConfirm};

use crate::env::{TestEnv, Worker, amqp_url, connect};

pub use event::BenchEvent;
pub use statistics::{median, speed_by_commits, steady_speed};

/// Upper bound of every wait. Only a failing run waits that long.
pub const TIMEOUT: Duration = Duration::from_secs(600);

/// Pause between two checks of a worker, which sends no signal.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// Counter of the events that a worker has stored: all that benchmarks publish are of one type.
pub const STORED: &str = r#"cns_events_stored_total{event_type="enrichment_progress"}"#;

/// The kind of queue.
#[derive(Clone, Copy, PartialEq, ValueEnum)]
pub enum QueueKind {
    Quorum,
    Classic,
    /// Classic with ten priorities
    Priority,
}

impl QueueKind {
    /// Returns the name in the figures.
    pub fn name(self) -> &'static str {
        match self {
            QueueKind::Quorum => "quorum",
            QueueKind::Classic => "classic",
            QueueKind::Priority => "priority",
        }
    }
}

/// A database and broker names of a run's own.
pub struct BenchEnv {
    env: TestEnv,
    /// Name of the worker's login.
    login: String,
    /// URL of the database as its owner.
    pub database_url: String,
    /// URL of the database as a login with a worker's privileges only: row-level security applies to it.
    pub worker_database_url: String,
}

impl BenchEnv {
    /// Creates an environment on the servers of AMQP_URL and DATABASE_URL.
    pub async fn new(bench: &str) -> BenchEnv {
        let env = TestEnv::new(bench).await;
        let (login, worker_database_url) = env.login("in role service_role").await;
        BenchEnv { login, worker_database_url, database_url: env.database_url.clone(), env }
    }

    /// Returns the name of the worker's queue.
    pub fn queue(&self) -> String {
        self.env.queue()
    }

    /// Returns the command, configured for this kind of queue.
    pub fn command(&self, queue: QueueKind) -> Command {
        let mut command = self.env.command();
        configure(&mut command, queue);
        command
    }

    /// Declares the topology by a short-lived worker, so that the queue can be filled without a consumer.
    pub async fn declare(&self, queue: QueueKind) {
        let mut worker = self.worker(queue, &self.worker_database_url);
        wait_for(&mut worker, "/readyz", |text| text.contains("true")).await;
        stop(&mut worker);
    }

    /// Opens a channel, and the connection that it ends with.
    pub async fn channel(&self) -> lapin::Result<(Connection, Channel)> {
        let connection = Connection::connect(&amqp_url(), ConnectionProperties::default()).await?;
        let channel = connection.create_channel().await?;
        Ok((connection, channel))
    }

    /// Publishes with confirms.
    pub async fn fill(&self, channel: &Channel, events: &[BenchEvent]) {
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

    /// Publishes as a producer does; the confirm is still to come.
    pub async fn publish(&self, channel: &Channel, event: &BenchEvent) -> PublisherConfirm {
        let properties = lapin::BasicProperties::default()
            .with_delivery_mode(2)
            .with_priority(4)
            .with_content_type("application/json".into())
            .with_message_id(event.id.as_str().into())
            .with_type("enrichment_progress".into());
        let (exchange, key) = (self.env.exchange(), "cns.enrichment.progress");
        let options = BasicPublishOptions::default();
        channel.basic_publish(exchange.into(), key.into(), options, &event.body(), properties).await.unwrap()
    }

    /// Empties the tables.
    pub async fn truncate(&self) {
        let client = connect(&self.database_url).await;
        let tables = "enrichment_events, enrichment_journal, enrichment_positions, event_counts, stage_times, workflow_runs, workflow_parts";
        client.batch_execute(&format!("truncate {tables}; checkpoint")).await.unwrap();
    }

    /// Starts the task that keeps the summaries.
    pub fn aggregate(&self) -> Worker {
        self.env.launcher().run("aggregate", |_| {})
    }

    /// Starts a worker that reaches the database by this URL.
    pub fn worker(&self, queue: QueueKind, database_url: &str) -> Worker {
        self.env.start(|command| {
            configure(command, queue);
            command.env("CNS_EVENTS__DATABASE__URL", database_url);
        })
    }

    /// Removes queues and exchanges. RabbitMQ 3.10 now and then fails to delete a quorum queue whose consumer has just left, and
    /// closes the connection; a later attempt finds the queue gone, or deletes it.
    #[allow(clippy::print_stderr)]
    pub async fn remove_queues(&self) {
        for _ in 0..5 {
            match self.try_remove_queues().await {
                Ok(()) => return,
                Err(error) => eprintln!("the queues are not gone yet: {error}"),
            }
            // The broker does not report when it can.
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        panic!("the queues cannot be deleted");
    }

    async fn try_remove_queues(&self) -> lapin::Result<()> {
        let (connection, channel) = self.channel().await?;
        for queue in ["persist", "dead"] {
            let name = format!("{}.{queue}", self.env.name);
            channel.queue_delete(name.into(), QueueDeleteOptions::default()).await?;
        }
        for exchange in ["events", "dlx", "stored"] {
            let name = format!("{}.{exchange}", self.env.name);
            channel.exchange_delete(name.into(), ExchangeDeleteOptions::default()).await?;
        }
        connection.close(200, "done".into()).await
    }

    /// Removes the login; database and names go with the environment.
    pub async fn tear_down(self) {
        self.env.drop_login(&self.login).await;
    }
}

fn configure(command: &mut Command, queue: QueueKind) {
    let kind = if queue == QueueKind::Quorum { "quorum" } else { "classic" };
    let priorities = if queue == QueueKind::Priority { "10" } else { "0" };
    command.env("CNS_EVENTS__AMQP__QUEUE_TYPE", kind).env("CNS_EVENTS__AMQP__MAX_PRIORITY", priorities);
}

/// Waits until a page of the worker's HTTP server is as it should be.
pub async fn wait_for(worker: &mut Worker, path: &str, good: impl Fn(&str) -> bool) {
    let deadline = Instant::now() + TIMEOUT;
    while !worker.get(path).is_some_and(|(_, text)| good(&text)) {
        assert!(worker.child.try_wait().unwrap().is_none(), "the worker ended:\n{}", worker.log());
        assert!(Instant::now() < deadline, "the worker is not done within {TIMEOUT:?}");
        tokio::time::sleep(POLL_INTERVAL).await; // the worker is another process, which sends no signal
    }
}

/// Waits until workers have stored so many events between them.
pub async fn wait_until_stored(workers: &mut [Worker], events: f64) {
    let deadline = Instant::now() + TIMEOUT;
    while workers.iter().map(|worker| worker.metric_value(STORED)).sum::<f64>() < events {
        for worker in &mut *workers {
            assert!(worker.child.try_wait().unwrap().is_none(), "a worker ended:\n{}", worker.log());
        }
        assert!(Instant::now() < deadline, "the workers are not done within {TIMEOUT:?}");
        tokio::time::sleep(POLL_INTERVAL).await; // the workers are other processes, which send no signal
    }
}

/// Sends SIGTERM and waits for the end.
pub fn stop(worker: &mut Worker) {
    worker.signal("-TERM");
    let _ = worker.child.wait();
}
