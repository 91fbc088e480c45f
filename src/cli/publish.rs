//! `cns-events publish`

use std::collections::{HashSet, VecDeque};
use std::io::{BufRead, BufReader, IsTerminal};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use chrono::Utc;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::{Failure, output};
use crate::config::Config;
use crate::event::{Event, PayloadPolicy, ReceivedMessage, Rejection, Rules, decode, schema};
use crate::publisher::{CloseReport, LogError, Publisher, PublisherConfig};

/// Events that are read and not confirmed, at most: enough to keep the broker busy.
const BUFFER_EVENTS: usize = 10_000;

/// Their bytes, at most.
const BUFFER_BYTES: usize = 64 * 1024 * 1024;

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
    /// A folder for what the broker does not take in time; the next run with it sends that first
    #[arg(long, value_name = "FOLDER", conflicts_with = "dry_run")]
    spool: Option<PathBuf>,
    /// How long the broker may take nothing, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    timeout: u64,
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
        let bytes = self.file.as_ref().and_then(|file| std::fs::metadata(file).ok()).map(|of| of.len());
        let bar = if self.event_type.is_some() { ProgressBar::hidden() } else { progress(bytes) };
        let mut sending = Sending {
            publisher: if self.dry_run { None } else { Some(self.publisher(config)?) },
            timeout: Duration::from_secs(self.timeout),
            bar: bar.clone(),
            taken: 0,
            failed: 0,
            errors: Vec::new(),
            unconfirmed: VecDeque::new(),
            stuck: false,
        };
        match (&self.event_type, &self.file) {
            (Some(event_type), _) => {
                let body = self.body(event_type)?;
                sending.line(1, &body, &rules, self.routing_key.as_deref()).await;
            }
            (None, Some(path)) => {
                let file =
                    std::fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
                let lines = BufReader::new(bar.wrap_read(file));
                sending.lines(lines, &rules, self.routing_key.as_deref()).await?;
            }
            (None, None) => {
                let lines = BufReader::new(bar.wrap_read(std::io::stdin()));
                sending.lines(lines, &rules, self.routing_key.as_deref()).await?;
            }
        }
        let outcome = sending.finish().await;
        bar.finish_and_clear();
        self.report(&sending, &outcome)?;
        if sending.failed > 0 { Err(Failure::Said) } else { Ok(()) }
    }

    fn publisher(&self, config: &Config) -> anyhow::Result<Publisher> {
        let mut publisher = PublisherConfig::new(config.amqp.uri.expose(), "cns-events")
            .exchange(&config.amqp.exchange)
            .buffer(BUFFER_EVENTS, BUFFER_BYTES.max(config.worker.max_message_bytes))
            .max_message_bytes(config.worker.max_message_bytes);
        if let Some(folder) = &self.spool {
            publisher = publisher.spool(folder);
        }
        Publisher::start(publisher).context("cannot publish")
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

    fn report(&self, sending: &Sending, outcome: &Outcome) -> anyhow::Result<()> {
        let verb = if self.dry_run { "valid" } else { "published" };
        let Outcome { recovered, in_spool } = outcome;
        if self.json {
            return output::json(&json!({
                verb: sending.taken, "failed": sending.failed, "errors": sending.errors,
                "recovered": recovered, "in_spool": in_spool,
            }));
        }
        for error in &sending.errors {
            output::complain(error);
        }
        let recovered = match recovered {
            0 => String::new(),
            events => format!(", from the spool: {events}"),
        };
        output::line(&format!("{verb}: {}, failed: {}{recovered}", sending.taken, sending.failed));
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
struct Sending {
    publisher: Option<Publisher>,
    timeout: Duration,
    bar: ProgressBar,
    /// Accepted by the publisher, or valid in a dry run.
    taken: u64,
    failed: u64,
    errors: Vec<String>,
    /// The lines of the last events that were accepted: as many as can be unconfirmed.
    unconfirmed: VecDeque<(String, u64)>,
    /// The broker took nothing for too long. Nothing is read after it.
    stuck: bool,
}

impl Sending {
    async fn lines(&mut self, lines: impl BufRead, rules: &Rules, key: Option<&str>) -> anyhow::Result<()> {
        for (number, line) in (1..).zip(lines.split(b'\n')) {
            let line = line.context("cannot read the input")?;
            if !line.trim_ascii().is_empty() {
                self.line(number, line.trim_ascii(), rules, key).await;
            }
            if self.stuck {
                break;
            }
        }
        Ok(())
    }

    /// Validates one body, and hands it over. A bad one is told and does not stop the rest.
    async fn line(&mut self, number: u64, body: &[u8], rules: &Rules, key: Option<&str>) {
        let fresh_id = Uuid::now_v7().to_string();
        let event = match event(body, &fresh_id, rules, key) {
            Ok(event) => event,
            Err(rejection) => return self.fail(number, &rejection),
        };
        let Some(publisher) = &self.publisher else {
            self.taken += 1;
            return;
        };
        self.bar.set_message(publisher.outage().unwrap_or_default());
        let event_id = event.event_id.clone().into_owned();
        match publisher.log_wait(event, Instant::now() + self.timeout).await {
            Ok(()) => {
                self.taken += 1;
                self.unconfirmed.push_back((event_id, number));
                if self.unconfirmed.len() > BUFFER_EVENTS {
                    self.unconfirmed.pop_front();
                }
            }
            Err(LogError::Invalid(rejection)) => self.fail(number, &rejection),
            Err(LogError::NoRoom | LogError::Closed) => self.stuck = true,
        }
    }

    /// Waits for the broker's confirms. What it has not confirmed in time is told once, with the line from which on to
    /// publish again.
    async fn finish(&mut self) -> Outcome {
        let Some(publisher) = self.publisher.take() else { return Outcome::default() };
        self.bar.set_message(publisher.outage().unwrap_or_default());
        let flushed = publisher.flush(self.timeout).await;
        let why = if flushed.left == 0 && !self.stuck { None } else { Some(trouble(&publisher)) };
        let CloseReport { left, in_spool, lost, .. } = publisher.close(Duration::ZERO).await;
        let outcome = Outcome { recovered: publisher.stats().recovered, in_spool };
        let Some(why) = why else { return outcome };
        self.taken = self.taken.saturating_sub(left);
        self.failed += left;
        if in_spool > 0 {
            self.errors.push(format!("{in_spool} events wait in the spool ({why}); `cns-events publish` with the same --spool sends them"));
        }
        let lost: HashSet<_> = lost.iter().map(String::as_str).collect();
        let first = self.unconfirmed.iter().find(|(event_id, _)| lost.contains(event_id.as_str()));
        if let Some((_, line)) = first {
            self.errors.push(format!(
                "line {line}: not confirmed: {why}; publish again from here on: an event_id makes it safe"
            ));
        }
        outcome
    }

    fn fail(&mut self, number: u64, why: &dyn std::fmt::Display) {
        self.failed += 1;
        self.errors.push(format!("line {number}: {why}"));
    }
}

/// What else is worth a word.
#[derive(Default)]
struct Outcome {
    recovered: u64,
    in_spool: u64,
}

/// Why events are not confirmed.
fn trouble(publisher: &Publisher) -> String {
    match (publisher.outage(), publisher.stats().returned) {
        (Some(outage), _) => outage,
        (None, 0) => "the broker confirms too slowly".to_owned(),
        (None, _) => "no queue takes them: start a worker, which declares the queue".to_owned(),
    }
}

/// Reads a body as the worker would, fills in what a producer may leave out, and finds its routing key.
fn event<'a>(
    body: &'a [u8],
    fresh_id: &'a str,
    rules: &Rules,
    key: Option<&'a str>,
) -> Result<Event<'a>, Rejection> {
    let message = ReceivedMessage {
        body,
        routing_key: key.unwrap_or_default(),
        message_id: Some(fresh_id),
        event_type: None,
        timestamp: None,
        received_at: Utc::now(),
    };
    let mut event = decode(&message, rules)?.event;
    if key.is_none() {
        event.routing_key = schema::routing_key(&event.event_type, event.payload.get());
    }
    Ok(event)
}

/// A bar on a terminal, nothing elsewhere.
fn progress(bytes: Option<u64>) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = bytes.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    let style = match bytes {
        Some(_) => "{bar:40} {bytes}/{total_bytes}, {eta} left {msg}",
        None => "{spinner} {bytes} read {msg}",
    };
    bar.with_style(ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar()))
}
