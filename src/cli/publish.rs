//! `cns-events publish`

use std::borrow::Cow;
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, IsTerminal};
use std::path::PathBuf;

use anyhow::Context as _;
use chrono::Utc;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{Failure, output};
use crate::broker::Broker;
use crate::config::Config;
use crate::event::{Event, Incoming, PayloadPolicy, Rejection, Rules, decode, schema};
use crate::publisher::{Pending, PublishError, Publisher};

/// Messages on their way at the same time. Enough to hide the broker's fsync; few enough to stay small.
const IN_FLIGHT: usize = 1000;

#[derive(Debug, Args)]
pub(super) struct Publish {
    /// Event type; with it one event is published from these flags, without it JSON lines are read
    #[arg(long = "type", value_name = "TYPE", requires = "bom_id")]
    event_type: Option<String>,
    /// BOM
    #[arg(long, value_name = "UUID", requires = "event_type")]
    bom_id: Option<Uuid>,
    /// Tenant; made from the organization where it is not given
    #[arg(long, value_name = "UUID", requires = "event_type")]
    tenant_id: Option<Uuid>,
    /// Organization
    #[arg(long, value_name = "ID", requires = "event_type")]
    organization_id: Option<String>,
    /// Workflow
    #[arg(long, value_name = "ID", requires = "event_type")]
    workflow_id: Option<String>,
    /// Project
    #[arg(long, value_name = "UUID", requires = "event_type")]
    project_id: Option<Uuid>,
    /// User
    #[arg(long, value_name = "UUID", requires = "event_type")]
    user_id: Option<Uuid>,
    /// customer or staff
    #[arg(long, requires = "event_type")]
    source: Option<String>,
    /// Deduplication key; a UUIDv7 where it is not given
    #[arg(long, value_name = "ID", requires = "event_type")]
    event_id: Option<String>,
    /// Payload, a JSON object
    #[arg(long, value_name = "JSON", requires = "event_type")]
    payload: Option<Box<str>>,
    /// Workflow state, a JSON object
    #[arg(long, value_name = "JSON", requires = "event_type")]
    state: Option<Box<str>>,
    /// Routing key; that of the type where it is not given
    #[arg(long, value_name = "KEY")]
    routing_key: Option<String>,
    /// A file of JSON lines, each one event as the contract has it; stdin where neither it nor --type is given
    #[arg(long, short, value_name = "FILE", conflicts_with = "event_type")]
    file: Option<PathBuf>,
    /// Validate only, publish nothing
    #[arg(long)]
    dry_run: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

impl Publish {
    pub(super) async fn run(&self, config: &Config) -> Result<(), Failure> {
        let rules =
            Rules { max_message_bytes: config.worker.max_message_bytes, payload: PayloadPolicy::Reject };
        let mut sending = Sending::default();
        if !self.dry_run {
            let broker =
                Broker::new(config.amqp.uri.expose(), "cns-events publish").map_err(anyhow::Error::from)?;
            let publisher = Publisher::connect(&broker, &config.amqp.exchange, "cns-events")
                .await
                .context("cannot reach the broker")?;
            sending.publisher = Some(publisher);
        }
        match (&self.event_type, &self.file) {
            (Some(event_type), _) => {
                let body = self.body(event_type)?;
                sending.line(1, &body, &rules, self.routing_key.as_deref()).await;
            }
            (None, Some(path)) => {
                let file =
                    std::fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
                let bar = progress(file.metadata().map(|of| of.len()).ok());
                let lines = BufReader::new(bar.wrap_read(file));
                sending.lines(lines, &rules, self.routing_key.as_deref()).await?;
                bar.finish_and_clear();
            }
            (None, None) => {
                let bar = progress(None);
                let lines = BufReader::new(bar.wrap_read(std::io::stdin()));
                sending.lines(lines, &rules, self.routing_key.as_deref()).await?;
                bar.finish_and_clear();
            }
        }
        sending.settle(0).await;
        self.report(&sending)?;
        if sending.failed > 0 { Err(Failure::Said) } else { Ok(()) }
    }

    /// The body that the flags describe.
    fn body(&self, event_type: &str) -> anyhow::Result<Vec<u8>> {
        let object = |name: &str, text: &Option<Box<str>>| -> anyhow::Result<Option<Box<RawValue>>> {
            let raw = text.as_ref().map(|text| RawValue::from_string(text.clone().into_string()));
            raw.transpose().with_context(|| format!("--{name} is not JSON"))
        };
        Ok(serde_json::to_vec(&Body {
            event_id: self.event_id.as_deref(),
            event_type,
            bom_id: self.bom_id,
            tenant_id: self.tenant_id,
            organization_id: self.organization_id.as_deref(),
            workflow_id: self.workflow_id.as_deref(),
            project_id: self.project_id,
            user_id: self.user_id,
            source: self.source.as_deref(),
            payload: object("payload", &self.payload)?,
            state: object("state", &self.state)?,
        })?)
    }

    fn report(&self, sending: &Sending) -> anyhow::Result<()> {
        let verb = if self.dry_run { "valid" } else { "published" };
        if self.json {
            return output::json(
                &json!({ verb: sending.done, "failed": sending.failed, "errors": sending.errors }),
            );
        }
        for error in &sending.errors {
            output::complain(error);
        }
        output::line(&format!("{verb}: {}, failed: {}", sending.done, sending.failed));
        Ok(())
    }
}

/// What the flags say; what they do not say is null, which counts as absent.
#[derive(serde::Serialize)]
struct Body<'a> {
    event_id: Option<&'a str>,
    event_type: &'a str,
    bom_id: Option<Uuid>,
    tenant_id: Option<Uuid>,
    organization_id: Option<&'a str>,
    workflow_id: Option<&'a str>,
    project_id: Option<Uuid>,
    user_id: Option<Uuid>,
    source: Option<&'a str>,
    payload: Option<Box<RawValue>>,
    state: Option<Box<RawValue>>,
}

/// Events on their way, and what became of them.
#[derive(Default)]
struct Sending {
    publisher: Option<Publisher>,
    pending: VecDeque<(u64, Pending)>,
    done: u64,
    failed: u64,
    errors: Vec<String>,
    /// The line at which the connection was lost. Nothing is published after it.
    lost_at: Option<u64>,
}

impl Sending {
    async fn lines(&mut self, lines: impl BufRead, rules: &Rules, key: Option<&str>) -> anyhow::Result<()> {
        for (number, line) in (1..).zip(lines.split(b'\n')) {
            let line = line.context("cannot read the input")?;
            if !line.trim_ascii().is_empty() {
                self.line(number, line.trim_ascii(), rules, key).await;
            }
            if self.lost_at.is_some() {
                break;
            }
        }
        Ok(())
    }

    /// Validates one body, and publishes it. A bad one is told and does not stop the rest.
    async fn line(&mut self, number: u64, body: &[u8], rules: &Rules, key: Option<&str>) {
        let fresh_id = Uuid::now_v7().to_string();
        let event = match event(body, &fresh_id, rules, key) {
            Ok(event) => event,
            Err(rejection) => return self.fail(number, &rejection),
        };
        let Some(publisher) = &self.publisher else {
            self.done += 1;
            return;
        };
        match publisher.publish(&event).await {
            Ok(pending) => self.pending.push_back((number, pending)),
            Err(error) => self.not_taken(number, &error),
        }
        self.settle(IN_FLIGHT).await;
    }

    /// Waits until no more than `left` are on their way.
    async fn settle(&mut self, left: usize) {
        while self.pending.len() > left {
            let Some((number, pending)) = self.pending.pop_front() else { return };
            match pending.confirmed().await {
                Ok(()) => self.done += 1,
                Err(error) => self.not_taken(number, &error),
            }
        }
    }

    /// A lost connection is told once, with the line from which on to publish again.
    fn not_taken(&mut self, number: u64, error: &PublishError) {
        let PublishError::Broker(lost) = error else { return self.fail(number, error) };
        self.failed += 1;
        if self.lost_at.is_none() {
            self.lost_at = Some(number);
            self.errors.push(format!(
                "line {number}: the connection was lost ({lost}); publish again from here on: an event_id makes it safe"
            ));
        }
    }

    fn fail(&mut self, number: u64, why: &dyn std::fmt::Display) {
        self.failed += 1;
        self.errors.push(format!("line {number}: {why}"));
    }
}

/// Reads a body as the worker would, fills in what a producer may leave out, and finds its routing key.
fn event<'a>(
    body: &'a [u8],
    fresh_id: &'a str,
    rules: &Rules,
    key: Option<&'a str>,
) -> Result<Event<'a>, Rejection> {
    let message = Incoming {
        body,
        routing_key: key.unwrap_or_default(),
        message_id: Some(fresh_id),
        event_type: None,
        timestamp: None,
        received_at: Utc::now(),
    };
    let mut event = decode(&message, rules)?.event;
    if key.is_none() {
        event.routing_key = match event.kind() {
            Some(kind) => schema::routing_key(kind, event.payload.get())
                .unwrap_or_else(|_| Cow::Owned(unnamed_key(kind.name()))),
            None => Cow::Owned(unnamed_key(&event.event_type)),
        };
    }
    Ok(event)
}

/// The key of a type that the contract gives none: its words under `cns.`
fn unnamed_key(event_type: &str) -> String {
    format!("cns.{}", event_type.replace('_', "."))
}

/// A bar on a terminal, nothing elsewhere.
fn progress(bytes: Option<u64>) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = bytes.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    let style = match bytes {
        Some(_) => "{bar:40} {bytes}/{total_bytes}, {eta} left",
        None => "{spinner} {bytes} read",
    };
    bar.with_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()))
}
