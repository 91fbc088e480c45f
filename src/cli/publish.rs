//! `cns-events publish`

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::Args;
use indicatif::ProgressBar;
use serde_json::json;
use serde_json::value::RawValue;
use uuid::Uuid;

use super::failure::Failure;
use crate::config::Config;
use crate::event::{PayloadPolicy, Rules};
use crate::input::{self, Source};
use crate::json_lines::{BUFFER_EVENTS, LinePublisher, LineReport};
use crate::publisher::Publisher;
use crate::terminal::bars;
use crate::terminal::output;

/// Maximum size of the events that are read and not confirmed.
const BUFFER_BYTES: usize = 64 * 1024 * 1024;

#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("owner").multiple(true))]
#[command(override_usage = "cns-events publish [--file <FILE>] [OPTIONS]\n       \
    cns-events publish --type <TYPE> --bom-id <UUID> --organization <ID>")]
pub(super) struct Publish {
    /// Publish one event of this type from the flags; without it, read events from a file or stdin
    #[arg(long = "type", value_name = "TYPE", requires_all = ["bom_id", "owner"])]
    event_type: Option<String>,
    /// BOM of the event
    #[arg(long, alias = "bom", value_name = "UUID", requires = "event_type")]
    bom_id: Option<Uuid>,
    /// Tenant [default: derived from the organization]
    #[arg(
        long = "tenant",
        alias = "tenant-id",
        group = "owner",
        value_name = "UUID",
        requires = "event_type"
    )]
    tenant_id: Option<Uuid>,
    /// Organization of the event
    #[arg(
        long = "organization",
        alias = "organization-id",
        group = "owner",
        value_name = "ID",
        requires = "event_type"
    )]
    organization_id: Option<String>,
    /// Workflow of the event
    #[arg(long, alias = "workflow", value_name = "ID", requires = "event_type")]
    workflow_id: Option<String>,
    /// Project of the BOM
    #[arg(long, alias = "project", value_name = "UUID", requires = "event_type")]
    project_id: Option<Uuid>,
    /// User who acted
    #[arg(long, alias = "user", value_name = "UUID", requires = "event_type")]
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
    /// Read events from this file; - is stdin, as without it and --type. They are JSON: one a line, over several lines, or an array
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
        let source = self.source()?;
        let publisher = if self.dry_run { None } else { Some(self.publisher(config)?) };
        let bar = source.as_ref().map_or_else(ProgressBar::hidden, |source| bars::bytes(source.bytes));
        let told = bar.clone();
        let tell = Box::new(move |error: &str| told.suspend(|| output::error(&output::safe_lines(error))));
        let timeout = Duration::from_secs(self.timeout);
        let mut lines = LinePublisher::new(publisher, rules, self.routing_key.clone(), timeout, tell);
        let show_outage = |outage: Option<String>| bar.set_message(outage.unwrap_or_default());
        let mut read = Ok(());
        if let Some(event_type) = &self.event_type {
            lines.event(None, &self.body(event_type)?).await;
        } else if let Some(Source { name, reader, .. }) = source {
            match lines.events(bar.wrap_read(reader), show_outage).await {
                Ok(0) => output::note(&format!("{name} has no events")),
                Ok(_) => {}
                Err(error) => read = Err(anyhow!("cannot read {name}: {error}")),
            }
        }
        show_outage(lines.outage());
        // What was read before an error is published.
        let report = lines.finish().await;
        bar.finish_and_clear();
        self.print(&report)?;
        read?;
        if report.failed > 0 { Err(Failure::Reported) } else { Ok(()) }
    }

    /// Opens the input, unless the flags describe the event.
    fn source(&self) -> anyhow::Result<Option<Source>> {
        if self.event_type.is_some() {
            return Ok(None);
        }
        let path = self.file.as_deref().unwrap_or(Path::new("-"));
        if input::is_standard(path) && std::io::stdin().is_terminal() {
            output::note("reading events from the terminal; Ctrl-D ends them");
        }
        Ok(Some(input::open(path).with_context(|| format!("cannot read {}", path.display()))?))
    }

    fn publisher(&self, config: &Config) -> anyhow::Result<Publisher> {
        let publisher = config.amqp.publisher("cns-events");
        let mut publisher = publisher
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
