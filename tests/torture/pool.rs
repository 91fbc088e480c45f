//! Workers as processes: killed, stopped and frozen by the plan; none may end otherwise.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinHandle;

use crate::env::{TestEnv, Worker, amqp_url};
use crate::servers::Servers;

/// Upper bound for a graceful stop: `worker.shutdown_seconds`, and a margin.
const STOP: Duration = Duration::from_secs(40);

pub struct Pool {
    workers: Vec<Mutex<Option<Worker>>>,
    start: Box<dyn Fn() -> Worker + Send + Sync>,
    wrong: Mutex<Vec<String>>,
    restarts: Mutex<usize>,
    most_memory: AtomicU64,
}

impl Pool {
    /// Workers behind the relays, ready.
    pub async fn start(env: &TestEnv, servers: &Servers, database_url: &str, size: usize) -> Self {
        let (broker, database) = (servers.broker.url(&amqp_url()), servers.database.url(database_url));
        let starter = env.launcher();
        let start = move || {
            starter.start(|command| {
                command
                    .env("CNS_EVENTS__AMQP__URI", &broker)
                    .env("CNS_EVENTS__DATABASE__URL", &database)
                    .env("CNS_EVENTS__DATABASE__STATEMENT_TIMEOUT_MS", "2000")
                    .env("CNS_EVENTS__WORKER__HOLD_SECONDS", "2");
            })
        };
        let workers: Vec<Worker> = (0..size).map(|_| start()).collect();
        for worker in &workers {
            worker.ready().await;
        }
        Pool {
            workers: workers.into_iter().map(|worker| Mutex::new(Some(worker))).collect(),
            start: Box::new(start),
            wrong: Mutex::default(),
            restarts: Mutex::default(),
            most_memory: AtomicU64::default(),
        }
    }

    /// Notices workers that end by themselves, and starts others.
    pub fn watch(self: Arc<Self>) -> JoinHandle<()> {
        tokio::spawn(async move {
            loop {
                for (number, slot) in self.workers.iter().enumerate() {
                    let mut slot = slot.lock().unwrap();
                    let memory = slot.as_ref().map_or(0, Worker::memory);
                    self.most_memory.fetch_max(memory, Ordering::Relaxed);
                    if let Some(worker) = slot.as_mut()
                        && let Some(status) = worker.child.try_wait().unwrap()
                    {
                        self.complain(format!("worker {number} ended by itself: {status}"));
                        *slot = Some((self.start)());
                    }
                }
                tokio::time::sleep(Duration::from_millis(100)).await; // an ending process sends no signal here
            }
        })
    }

    pub fn signal(&self, number: usize, signal: &str) {
        if let Some(worker) = self.workers[number].lock().unwrap().as_ref() {
            worker.signal(signal);
        }
    }

    /// SIGKILL, and another in its place.
    pub async fn kill(&self, number: usize) {
        let old = self.workers[number].lock().unwrap().take();
        drop(old); // which kills it
        *self.workers[number].lock().unwrap() = Some((self.start)());
        *self.restarts.lock().unwrap() += 1;
    }

    /// SIGTERM, the end it leads to, and another in its place.
    pub async fn restart(&self, number: usize) {
        self.end(number).await;
        *self.workers[number].lock().unwrap() = Some((self.start)());
        *self.restarts.lock().unwrap() += 1;
    }

    /// Waits until nothing is in flight in any of them: a batch that is held would go back to the queue at a stop.
    pub async fn idle(&self, limit: Duration) -> bool {
        let deadline = std::time::Instant::now() + limit;
        let in_flight =
            || (0..self.workers.len()).any(|number| self.metric_value(number, "cns_events_in_flight") > 0.0);
        while in_flight() {
            if std::time::Instant::now() > deadline {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(100)).await; // other processes send no signal
        }
        true
    }

    /// Ends all of them; whether each ended as it should.
    pub async fn stop(&self) -> bool {
        let before = self.wrong.lock().unwrap().len();
        for number in 0..self.workers.len() {
            self.end(number).await;
        }
        self.wrong.lock().unwrap().len() == before
    }

    async fn end(&self, number: usize) {
        let worker = self.workers[number].lock().unwrap().take();
        let Some(mut worker) = worker else { return };
        match tokio::time::timeout(STOP, worker.terminate()).await {
            Ok(status) if status.success() => {}
            Ok(status) => self.complain(format!("worker {number} ended with {status} at SIGTERM")),
            Err(_) => self.complain(format!("worker {number} did not end at SIGTERM")),
        }
    }

    pub fn complain(&self, what: String) {
        println!("  WRONG: {what}");
        self.wrong.lock().unwrap().push(what);
    }

    pub fn wrong(&self) -> Vec<String> {
        self.wrong.lock().unwrap().clone()
    }

    pub fn restarts(&self) -> usize {
        *self.restarts.lock().unwrap()
    }

    /// Returns the most memory that any worker had, in bytes.
    pub fn most_memory(&self) -> u64 {
        self.most_memory.load(Ordering::Relaxed)
    }

    /// A metric of a worker that runs.
    pub fn metric_value(&self, number: usize, name: &str) -> f64 {
        self.workers[number].lock().unwrap().as_ref().map_or(0.0, |worker| worker.metric_value(name))
    }

    /// Bytes that a worker has in memory.
    pub fn memory(&self, number: usize) -> u64 {
        self.workers[number].lock().unwrap().as_ref().map_or(0, Worker::memory)
    }
}
