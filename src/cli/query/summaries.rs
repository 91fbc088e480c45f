//! `cns-events query workflows` and `cns-events query summary`

use anyhow::anyhow;
use chrono::{DateTime, Utc};
use clap::Args;
use serde_json::json;
use uuid::Uuid;

use super::args::{TenantArgs, usage_of};
use crate::cli::failure::{Failure, usage};
use crate::config::Config;
use crate::store::fix::{self, Purpose};
use crate::store::read::summaries::{By, CountsQuery, Step, WorkflowCursor, WorkflowFilter, WorkflowQuery};
use crate::store::read::{Reader, SummaryError};
use crate::terminal::output;
use crate::terminal::summaries;

#[derive(Debug, Args)]
#[command(override_usage = usage_of!("workflows"))]
pub(super) struct Workflows {
    /// Print only workflows of this status; `stalled`: running, and silent for api.stalled_minutes
    #[arg(long)]
    status: Option<String>,
    /// Print only workflows in this stage
    #[arg(long)]
    stage: Option<String>,
    /// Print only workflows of this BOM
    #[arg(long, alias = "bom-id", value_name = "UUID")]
    bom: Option<Uuid>,
    /// Print only workflows whose events name this part number
    #[arg(long)]
    mpn: Option<String>,
    /// Print only workflows whose id begins with this
    #[arg(long, value_name = "PREFIX")]
    starts_with: Option<String>,
    #[command(flatten)]
    tenant: TenantArgs,
    /// Maximum number of workflows [default: 100]
    #[arg(long, value_name = "1-1000", value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: Option<u16>,
    /// Continue after this cursor
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<WorkflowCursor>,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[command(override_usage = usage_of!("summary"))]
pub(super) struct Summary {
    /// Begin (RFC 3339) [default: 24 hours before the end, by day 30 days]
    #[arg(long, value_name = "TIME")]
    from: Option<DateTime<Utc>>,
    /// End (RFC 3339) [default: now]
    #[arg(long, value_name = "TIME")]
    to: Option<DateTime<Utc>>,
    /// Length of the steps, in UTC
    #[arg(long, default_value = "hour", value_parser = Step::ALL.map(Step::name))]
    step: String,
    /// Property that events are counted by
    #[arg(long, default_value = "type", value_parser = By::ALL.map(By::name))]
    by: String,
    #[command(flatten)]
    tenant: TenantArgs,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Workflows {
    pub(super) async fn run(&self, config: &Config) -> Result<(), Failure> {
        let filter = WorkflowFilter {
            status: self.status.clone(),
            stage: self.stage.clone(),
            organization: self.tenant.filter().map(str::to_owned),
            bom: self.bom,
            mpn: self.mpn.clone(),
            prefix: self.starts_with.clone(),
        };
        let query = WorkflowQuery::new(filter, config.api.stalled_minutes, self.limit.map(usize::from));
        let query = query.unwrap_or_else(|error| usage(error)).after(self.cursor.clone());
        let page = reader(config)?.workflows(&self.tenant.summaries_scope(), &query).await;
        let page = page.map_err(|error| explained(&error, &self.tenant))?;
        if self.json {
            for run in &page.workflows {
                let run = serde_json::to_string(run).map_err(anyhow::Error::from)?;
                output::line(&output::printable(&run));
            }
        } else if page.workflows.is_empty() {
            output::line("no such workflows");
        } else {
            output::line(&summaries::workflows(&page.workflows, self.tenant.all_tenants));
        }
        if let Some(next) = page.next {
            output::note(&format!("there are more workflows: --cursor {next} prints the next"));
        }
        as_of(page.freshness.as_of);
        Ok(())
    }
}

impl Summary {
    pub(super) async fn run(&self, config: &Config) -> Result<(), Failure> {
        self.tenant.without_filter();
        let step = Step::from_name(&self.step).unwrap_or(Step::Hour);
        let by = By::from_name(&self.by).unwrap_or(By::Type);
        let query = CountsQuery::new(self.from, self.to, step, by).unwrap_or_else(|error| usage(error));
        let counts = reader(config)?.counts(&self.tenant.summaries_scope(), &query).await;
        let counts = counts.map_err(|error| explained(&error, &self.tenant))?;
        if self.json {
            output::json(&json!({
                "from": counts.span.from, "to": counts.span.to, "steps": counts.steps, "totals": counts.totals(),
                "workflows": counts.workflows, "as_of": counts.freshness.as_of,
            }))?;
        } else {
            output::line(&summaries::counts(&counts, step));
            as_of(counts.freshness.as_of);
        }
        Ok(())
    }
}

fn reader(config: &Config) -> anyhow::Result<Reader> {
    Ok(config.database.reader()?)
}

fn as_of(time: DateTime<Utc>) {
    output::note(&format!("as of {} UTC", summaries::time(time)));
}

fn explained(error: &SummaryError, tenant: &TenantArgs) -> anyhow::Error {
    let purpose = if tenant.all_tenants { Purpose::ReadSummaries } else { Purpose::Read };
    match error {
        SummaryError::NeverMade => anyhow!("{error}\nhint: run `cns-events aggregate`"),
        SummaryError::Failed(failure) => {
            anyhow!("cannot read summaries: {}", fix::explained(failure, purpose))
        }
    }
}
