//! Events as lines of a table, or as JSON.

use clap::builder::styling::{AnsiColor, Style};
use serde_json::json;

use super::output;
use super::stream::{Stream, has_colors};
use crate::event::EventType;
use crate::store::read::StoredEvent;
use crate::timeline::{Summary, describe, summary_lines};

/// Columns beside the time and the description.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Columns {
    /// The event type.
    Events,
    /// BOM and workflow, and the tenant where there are several.
    Errors {
        /// Several tenants may be visible.
        tenants: bool,
    },
}

/// Prints events one by one.
pub(crate) struct Printer {
    columns: Columns,
    json: bool,
    coloured: bool,
    lines: u64,
}

impl Printer {
    pub(crate) fn new(columns: Columns, json: bool) -> Self {
        Printer { columns, json, coloured: has_colors(Stream::Stdout), lines: 0 }
    }

    pub(crate) fn json(&self) -> bool {
        self.json
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.lines == 0
    }

    pub(crate) fn event(&mut self, event: &StoredEvent) -> anyhow::Result<()> {
        if self.json {
            output::line(&output::printable(&serde_json::to_string(event)?));
        } else {
            if self.is_empty() {
                let header = self.row("time (UTC)", ["type", "bom", "workflow", "tenant"], "description");
                output::line(&self.styled(Style::new().bold(), &header));
            }
            let time = event.created_at.format("%Y-%m-%d %H:%M:%S%.3f").to_string();
            let (event_type, workflow) =
                (output::safe(&event.event_type), event.workflow_id.as_deref().unwrap_or("-"));
            let (bom, tenant) = (event.bom_id.to_string(), event.tenant_id.to_string());
            let row = self.row(
                &time,
                [&event_type, &bom, &output::safe(workflow), &tenant],
                &output::safe(&describe(&event.timeline())),
            );
            output::line(&self.styled(style(&event.event_type), &row));
        }
        self.lines += 1;
        Ok(())
    }

    fn row(&self, time: &str, [event_type, bom, workflow, tenant]: [&str; 4], description: &str) -> String {
        match self.columns {
            Columns::Events => format!("{time:<23}  {event_type:<19}  {description}"),
            Columns::Errors { tenants: false } => {
                format!("{time:<23}  {bom:<36}  {workflow:<20}  {description}")
            }
            Columns::Errors { tenants: true } => {
                format!("{time:<23}  {tenant:<36}  {bom:<36}  {workflow:<20}  {description}")
            }
        }
    }

    fn styled(&self, style: Style, text: &str) -> String {
        if self.coloured { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }

    /// Prints the state of a workflow.
    pub(crate) fn summary(&self, summary: &Summary) -> anyhow::Result<()> {
        if self.json {
            output::line(&output::printable(&json!({ "workflow": summary }).to_string()));
            return Ok(());
        }
        output::line("");
        for (name, value) in summary_lines(summary) {
            let value = output::safe(&value);
            output::line(&format!("{}  {value}", self.styled(Style::new().bold(), &format!("{name:<9}"))));
        }
        Ok(())
    }
}

fn style(event_type: &str) -> Style {
    match EventType::from_name(event_type) {
        Some(EventType::Error) => AnsiColor::Red.on_default(),
        Some(EventType::RiskAlert | EventType::WorkflowPaused) => AnsiColor::Yellow.on_default(),
        Some(EventType::StageCompleted) => AnsiColor::Green.on_default(),
        Some(EventType::CacheHit | EventType::CacheMiss | EventType::ApiCallMade) => Style::new().dimmed(),
        _ => Style::new(),
    }
}
