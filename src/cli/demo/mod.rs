//! `cns-events demo`: a whole BOM's workflow through the running pool.

mod bom;
mod report;
mod script;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use chrono::Utc;
use clap::Args;
use indicatif::ProgressBar;
use uuid::Uuid;

use super::Failure;
use crate::broker::{BrokerEndpoint, Connection, queue_depth_on};
use crate::cli::reader;
use crate::config::Config;
use crate::event::{Event, Workflow};
use crate::publisher::{Publisher, PublisherConfig};
use crate::store::read::{AccessScope, Reader};
use bom::Bom;

/// How often the store is asked while it is waited for.
const POLL: Duration = Duration::from_millis(50);

/// Every event is published this often: producers retry, and the pool has to store it once.
const COPIES: usize = 2;

#[derive(Debug, Args)]
pub(super) struct Demo {
    /// A BOM as CSV; its part-number and manufacturer columns are found by their usual names
    #[arg(long, value_name = "FILE")]
    bom: Option<PathBuf>,
    /// The organization the workflow belongs to
    #[arg(long, value_name = "ID", default_value = "demo-organization")]
    organization_id: String,
    /// Connections that publish at once
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    connections: u8,
    /// How long to wait for the store, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    timeout: u64,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Demo {
    pub(super) async fn run(&self, config: &Config) -> Result<(), Failure> {
        let bom = self.bom.as_ref().map_or_else(Bom::sample, Bom::open)?;
        let bom_id = Uuid::now_v7();
        let workflow = Workflow::new(bom_id, self.organization_id.as_str(), format!("enrich-bom-{bom_id}"));
        let events = script::write(&workflow, &bom).context("cannot write the events")?;

        let reader = reader(config)?;
        let scope = AccessScope::tenant(workflow.tenant_id);
        reader.can_read(&scope).await.context("cannot read the table (database.url)")?;
        let broker =
            BrokerEndpoint::new(config.amqp.uri.expose(), "cns-events demo").map_err(anyhow::Error::from)?;

        let connection = broker.connect("demo").await.context("cannot reach the broker (amqp.uri)")?;
        let events = self.publish(config, events).await?;
        self.wait(&connection, config, (&reader, &scope), bom_id, events.len()).await?;
        let report = report::Report::gather(&reader, &workflow, &bom, &events, COPIES).await?;
        if self.json {
            report.print_json(config)?
        } else {
            report.print(config)
        }
        if report.complete() { Ok(()) } else { Err(Failure::Said) }
    }

    /// Publishes every event twice, in the workflow's order, from several connections at once; the copies of an
    /// event go through different connections. Returns the events with the times they were published at.
    async fn publish<'w>(
        &self,
        config: &Config,
        mut events: Vec<Event<'w>>,
    ) -> anyhow::Result<Vec<Event<'w>>> {
        let mut publishers = Vec::new();
        for _ in 0..self.connections {
            let publisher = PublisherConfig::new(config.amqp.uri.expose(), "cns-events-demo");
            publishers.push(Publisher::start(publisher.exchange(&config.amqp.exchange))?);
        }
        let bar = if self.json { ProgressBar::hidden() } else { ProgressBar::new(events.len() as u64) };
        for (number, event) in events.iter_mut().enumerate() {
            event.created_at = Utc::now();
            for copy in 0..COPIES {
                publishers[(number + copy) % publishers.len()].log(event.clone());
            }
            bar.inc(1);
        }
        for publisher in publishers {
            let closed = publisher.close(Duration::from_secs(self.timeout)).await;
            if closed.left > 0 {
                let why =
                    publisher.outage().unwrap_or_else(|| "no queue takes them: start a worker".to_owned());
                bail!("{} messages were not confirmed after {} s: {why}", closed.left, self.timeout);
            }
        }
        bar.finish_and_clear();
        Ok(events)
    }

    /// Waits until every event is stored and the queue is empty.
    async fn wait(
        &self,
        connection: &Connection,
        config: &Config,
        (reader, scope): (&Reader, &AccessScope),
        bom_id: Uuid,
        events: usize,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(self.timeout);
        loop {
            let stored =
                usize::try_from(reader.count(scope, bom_id).await.context("cannot read the table")?)?;
            let queue =
                queue_depth_on(connection, &config.amqp.queue).await.context("cannot ask about the queue")?;
            if stored >= events && queue.ready == 0 {
                return Ok(());
            }
            if Instant::now() > deadline {
                let hint = match queue.consumers {
                    0 => "no worker consumes it: start one with `cns-events worker`",
                    _ => "its workers may say why: look at their logs and /readyz",
                };
                bail!(
                    "after {} s {stored} of {events} events are stored and {} messages wait in {}; {hint}",
                    self.timeout,
                    queue.ready,
                    config.amqp.queue
                );
            }
            tokio::time::sleep(POLL).await;
        }
    }
}
