//! The scenario: publish every event twice, wait until the pool has stored them, and compare.

use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow, bail};
use chrono::Utc;
use uuid::Uuid;

use super::bom::Bom;
use super::report::Report;
use super::script;
use crate::broker::{Connection, queue_depth_on};
use crate::config::Config;
use crate::counted::counted;
use crate::event::{Event, Workflow};
use crate::publisher::{LogError, Publisher};
use crate::store::fix::{self, Purpose};
use crate::store::read::{AccessScope, Reader};

/// Pause between two looks at the table and the queue.
const POLL_INTERVAL: Duration = Duration::from_millis(50);

/// Copies of every event: producers retry, and the pool has to store an event once.
pub const COPIES: usize = 2;

/// Receiver of the number of published events and of all events.
pub type Progress<'a> = &'a (dyn Fn(usize, usize) + Sync);

/// Settings of a run.
#[derive(Debug)]
pub struct Scenario<'a> {
    /// Configuration with broker and database.
    pub config: &'a Config,
    /// BOM to process.
    pub bom: Bom,
    /// Organization that the workflow belongs to.
    pub organization_id: &'a str,
    /// Connections that publish at the same time.
    pub connections: u8,
    /// Timeout of publishing, and of waiting for the pool.
    pub timeout: Duration,
}

impl Scenario<'_> {
    /// Runs the scenario.
    ///
    /// # Errors
    /// A server cannot be reached, or the pool did not store the events in time.
    pub async fn run(&self, progress: Progress<'_>) -> anyhow::Result<Report> {
        let bom_id = Uuid::now_v7();
        let workflow = Workflow::new(bom_id, self.organization_id, format!("enrich-bom-{bom_id}"));
        let events = script::write(&workflow, &self.bom).context("cannot write the events")?;

        let reader = self.config.database.reader()?;
        let scope = AccessScope::tenant(workflow.tenant_id);
        reader.can_read(&scope).await.map_err(|failure| {
            anyhow!("cannot read the table (database.url): {}", fix::explained(&failure, Purpose::Read))
        })?;
        let broker = self.config.amqp.endpoint("cns-events demo")?;
        let connection = broker.connect("demo").await?;
        let events = self.publish(events, progress).await?;
        self.wait_until_stored(&connection, (&reader, &scope), bom_id, events.len()).await?;
        Report::gather(&reader, &workflow, &events, COPIES).await
    }

    /// Publishes every event twice, in the workflow's order, over several connections. The copies of an event use different
    /// connections. Returns the events with the times at which they were published.
    async fn publish<'w>(
        &self,
        mut events: Vec<Event<'w>>,
        progress: Progress<'_>,
    ) -> anyhow::Result<Vec<Event<'w>>> {
        let mut publishers = Vec::new();
        for _ in 0..self.connections {
            publishers.push(Publisher::start(self.config.amqp.publisher("cns-events-demo"))?);
        }
        let all = events.len();
        for (number, event) in events.iter_mut().enumerate() {
            event.created_at = Utc::now();
            for copy in 0..COPIES {
                let publisher = &publishers[(number + copy) % publishers.len()];
                let accepted = publisher.log_wait(event.clone(), Instant::now() + self.timeout).await;
                accepted.map_err(|error| self.not_accepted(&error, publisher.outage()))?;
            }
            progress(number + 1, all);
        }
        for publisher in publishers {
            publisher.flush(self.timeout).await;
            // A publisher that has ended has no other reason any more.
            let outage = publisher.outage();
            let closed = publisher.close(Duration::ZERO).await;
            if closed.left > 0 {
                let reason = outage.unwrap_or_else(|| "no queue takes them\nhint: start a worker".to_owned());
                bail!(
                    "not confirmed after {1} s: {0}: {reason}",
                    counted(closed.left, "message"),
                    self.timeout.as_secs()
                );
            }
        }
        Ok(events)
    }

    /// Returns the error about an event that the publisher did not accept.
    fn not_accepted(&self, error: &LogError, outage: Option<String>) -> anyhow::Error {
        match (error, outage) {
            (LogError::NoRoom, Some(outage)) => {
                anyhow!("the broker takes nothing for {} s: {outage}", self.timeout.as_secs())
            }
            _ => anyhow!("cannot publish an event of {}: {error}", self.bom.name),
        }
    }

    /// Waits until every event is stored and the queue is empty.
    async fn wait_until_stored(
        &self,
        connection: &Connection,
        (reader, scope): (&Reader, &AccessScope),
        bom_id: Uuid,
        events: usize,
    ) -> anyhow::Result<()> {
        let queue_name = &self.config.amqp.queue;
        let deadline = Instant::now() + self.timeout;
        loop {
            let stored =
                usize::try_from(reader.count(scope, bom_id).await.context("cannot read the table")?)?;
            let queue =
                queue_depth_on(connection, queue_name).await.context("cannot read the queue's depth")?;
            if stored >= events && queue.ready == 0 {
                return Ok(());
            }
            if Instant::now() > deadline {
                let hint = match queue.consumers {
                    0 => "start a worker: `cns-events worker`",
                    _ => "check the workers' logs and /readyz",
                };
                bail!(
                    "after {} s {stored} of {} stored, and {} in {queue_name}\nhint: {hint}",
                    self.timeout.as_secs(),
                    counted(events, "event"),
                    counted(queue.ready, "message"),
                );
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }
}
