//! Events as lines: for people, or JSON.

use std::io::IsTerminal;

use clap::builder::styling::{AnsiColor, Style};
use serde_json::json;

use super::summary;
use crate::cli::output;
use crate::event::EventType;
use crate::store::read::StoredEvent;
use crate::timeline::{Summary, describe};

/// What a line says beside what happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shows {
    /// The type.
    Events,
    /// Where it happened: workflow and BOM, and the tenant where there are several.
    Errors {
        /// There are several.
        tenants: bool,
    },
}

/// Prints events as they come.
pub(super) struct Printer {
    shows: Shows,
    json: bool,
    coloured: bool,
    lines: u64,
}

impl Printer {
    pub(super) fn new(shows: Shows, json: bool) -> Self {
        let coloured = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Printer { shows, json, coloured, lines: 0 }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lines == 0
    }

    pub(super) fn event(&mut self, event: &StoredEvent) -> anyhow::Result<()> {
        if self.json {
            output::line(&output::printable(&serde_json::to_string(event)?));
        } else {
            if self.is_empty() {
                let header = self.row("time (UTC)", ["type", "bom", "workflow", "tenant"], "what happened");
                output::line(&self.styled(Style::new().bold(), &header));
            }
            let time = event.created_at.format("%Y-%m-%d %H:%M:%S%.3f").to_string();
            let (of, workflow) =
                (output::safe(&event.event_type), event.workflow_id.as_deref().unwrap_or("-"));
            let (bom, tenant) = (event.bom_id.to_string(), event.tenant_id.to_string());
            let row = self.row(
                &time,
                [&of, &bom, &output::safe(workflow), &tenant],
                &output::safe(&describe(&event.timeline())),
            );
            output::line(&self.styled(style(&event.event_type), &row));
        }
        self.lines += 1;
        Ok(())
    }

    fn row(&self, time: &str, [of, bom, workflow, tenant]: [&str; 4], words: &str) -> String {
        match self.shows {
            Shows::Events => format!("{time:<23}  {of:<19}  {words}"),
            Shows::Errors { tenants: false } => format!("{time:<23}  {bom:<36}  {workflow:<20}  {words}"),
            Shows::Errors { tenants: true } => {
                format!("{time:<23}  {tenant:<36}  {bom:<36}  {workflow:<20}  {words}")
            }
        }
    }

    fn styled(&self, style: Style, text: &str) -> String {
        if self.coloured { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }

    /// Prints the state of a workflow.
    pub(super) fn summary(&self, summary: &Summary) -> anyhow::Result<()> {
        if self.json {
            output::line(&output::printable(&json!({ "workflow": summary }).to_string()));
            return Ok(());
        }
        output::line("");
        for (name, value) in summary::lines(summary) {
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
