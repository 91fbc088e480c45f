//! `cns-events publish`

use std::io::{BufReader, IsTerminal};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::failure::Failure;
use super::output;
use crate::config::Config;
use crate::event::{PayloadPolicy, Rules};
use crate::json_lines::{BUFFER_EVENTS, LinePublisher, LineReport};
use crate::publisher::{Publisher, PublisherConfig};

/// Maximum size of the events that are read and not confirmed.
const BUFFER_BYTES: usize = 64 * 1024 * 1024;

#[derive(Debug, Args)]
pub(super) struct Publish {
    /// Publish one event of this type from the flags; without it, read JSON lines
    #[arg(long = "type", value_name = "TYPE", requires = "bom_id")]
    event_type: Option<String>,
    /// BOM of the event
    #[arg(long, value_name = "UUID", requires = "event_type")]
    bom_id: Option<Uuid>,
    /// Tenant [default: derived from the organization]
    #[arg(long, value_name = "UUID", requires = "event_type")]
    tenant_id: Option<Uuid>,
    /// Organization of the event
    #[arg(long, value_name = "ID", requires = "event_type")]
    organization_id: Option<String>,
    /// Workflow of the event
    #[arg(long, value_name = "ID", requires = "event_type")]
    workflow_id: Option<String>,
    /// Project of the BOM
    #[arg(long, value_name = "UUID", requires = "event_type")]
    project_id: Option<Uuid>,
    /// User who acted
    #[arg(long, value_name = "UUID", requires = "event_type")]
    user_id: Option<Uuid>,
    /// Source of the event: customer or staff
    #[arg(long, requires = "event_type")]
    source: Option<String>,
    /// Deduplication key [default: a UUIDv7]
    #[arg(long, value_name = "ID", requires = "event_type")]
    event_id: Option<String>,
    /// Payload, a JSON object
    #[arg(long, value_name = "JSON", requires = "event_type")]
    payload: Option<Box<str>>,
    /// Workflow state, a JSON object
    #[arg(long, value_name = "JSON", requires = "event_type")]
    state: Option<Box<str>>,
    /// Routing key [default: that of the event type]
    #[arg(long, value_name = "KEY")]
    routing_key: Option<String>,
    /// Read JSON lines from this file, one event a line; without it and --type, read stdin
    #[arg(long, short, value_name = "FILE", conflicts_with = "event_type")]
    file: Option<PathBuf>,
    /// Keep events that the broker does not take in time in this folder; the next run with it sends them first
    #[arg(long, value_name = "FOLDER", conflicts_with = "dry_run")]
    spool: Option<PathBuf>,
    /// Fail after this many seconds in which the broker takes nothing
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    timeout: u64,
    /// Validate the events without publishing them
    #[arg(long)]
    dry_run: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Publish {
    pub(super) async fn run(&self, config: &Config) -> Result<(), Failure> {
        let rules =
            Rules { max_message_bytes: config.worker.max_message_bytes, payload: PayloadPolicy::Reject };
        let publisher = if self.dry_run { None } else { Some(self.publisher(config)?) };
        let timeout = Duration::from_secs(self.timeout);
        let mut lines = LinePublisher::new(publisher, rules, self.routing_key.clone(), timeout);
        let bytes = self.file.as_ref().and_then(|file| std::fs::metadata(file).ok()).map(|of| of.len());
        let bar = if self.event_type.is_some() { ProgressBar::hidden() } else { progress(bytes) };
        let show_outage = |outage: Option<String>| bar.set_message(outage.unwrap_or_default());
        match (&self.event_type, &self.file) {
            (Some(event_type), _) => lines.line(1, &self.body(event_type)?).await,
            (None, Some(path)) => {
                let file =
                    std::fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
                let read = lines.lines(BufReader::new(bar.wrap_read(file)), show_outage).await;
                read.with_context(|| format!("cannot read {}", path.display()))?;
            }
            (None, None) => {
                let stdin = BufReader::new(bar.wrap_read(std::io::stdin()));
                lines.lines(stdin, show_outage).await.context("cannot read stdin")?;
            }
        }
        show_outage(lines.outage());
        let report = lines.finish().await;
        bar.finish_and_clear();
        self.print(&report)?;
        if report.failed > 0 { Err(Failure::Reported) } else { Ok(()) }
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

    /// Returns the body of the event that the flags describe. A flag that is not given is null, which counts as absent.
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

    fn print(&self, report: &LineReport) -> anyhow::Result<()> {
        let LineReport { accepted, failed, errors, recovered, in_spool } = report;
        let verb = if self.dry_run { "valid" } else { "published" };
        if self.json {
            return output::json(&json!({
                verb: accepted, "failed": failed, "errors": errors, "recovered": recovered, "in_spool": in_spool,
            }));
        }
        errors.iter().for_each(|error| output::error(error));
        let recovered =
            if *recovered == 0 { String::new() } else { format!(", from the spool: {recovered}") };
        output::line(&format!("{verb}: {accepted}, failed: {failed}{recovered}"));
        Ok(())
    }
}

/// Event that the flags describe.
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

/// Returns a progress bar, hidden where stderr is not a terminal.
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
