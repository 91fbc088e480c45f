//! `cns-events query`: what happened to a BOM or a workflow, and the errors of late.

mod print;
mod summary;

use std::time::Duration;

use anyhow::anyhow;
use clap::{Args, Subcommand};
use futures_util::TryStreamExt;
use indicatif::ProgressBar;
use uuid::Uuid;

use super::{Failure, output, reader, usage};
use crate::backoff::Backoff;
use crate::config::Config;
use crate::event::tenant_of;
use crate::store::fix::{self, Purpose};
use crate::store::read::{AccessScope, Cursor, Limits, Query as Asked, Reader};
use crate::store::{FailureClass, Hold, StoreFailure};
use crate::timeline::Run;
use print::{Printer, Shows};

/// How often `--follow` asks for what is new.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

#[derive(Debug, Args)]
#[command(
    after_help = "Newest first; with --follow oldest first. Reads as a tenant, whose rows the database picks out by row-level security;\n\
    --all-tenants is for operators, with a login that is exempt from it."
)]
pub(super) struct Query {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Events of a BOM
    Bom {
        bom_id: Uuid,
        /// Only these types
        #[arg(long = "type", value_name = "TYPE,…", value_delimiter = ',')]
        types: Vec<String>,
        #[command(flatten)]
        whose: Whose,
        #[command(flatten)]
        show: Show,
    },
    /// Events of a workflow, and how it stands
    Workflow {
        workflow_id: String,
        #[command(flatten)]
        whose: Whose,
        #[command(flatten)]
        show: Show,
    },
    /// Errors of the last hours
    Errors {
        /// How far back
        #[arg(long, value_name = "HOURS", default_value_t = Limits::HOURS)]
        hours: u32,
        #[command(flatten)]
        whose: Whose,
        #[command(flatten)]
        show: Show,
    },
}

#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
struct Whose {
    /// As this tenant
    #[arg(long, value_name = "UUID", conflicts_with = "all_tenants")]
    tenant: Option<Uuid>,
    /// As the tenant that follows from this organization; for errors, beside another tenant: only this organization's
    #[arg(long, value_name = "ID")]
    organization: Option<String>,
    /// As an operator: every tenant's
    #[arg(long)]
    all_tenants: bool,
}

#[derive(Debug, Args)]
struct Show {
    /// Events at most [default: 100, errors 50]
    #[arg(long, value_name = "1-1000", conflicts_with = "all")]
    limit: Option<usize>,
    /// Go on where another answer ended
    #[arg(long, value_name = "CURSOR")]
    cursor: Option<Cursor>,
    /// All of them, page after page
    #[arg(long, conflicts_with = "follow")]
    all: bool,
    /// Keep printing what comes, until Ctrl-C
    #[arg(long, conflicts_with = "cursor")]
    follow: bool,
    /// Say how the database would answer, and ask nothing
    #[arg(long, conflicts_with_all = ["all", "follow", "json"])]
    explain: bool,
    /// Print JSON, one event a line, with all columns
    #[arg(long)]
    json: bool,
}

impl Query {
    pub(super) async fn run(&self, config: &Config) -> Result<(), Failure> {
        let (whose, show, shows) = match &self.what {
            What::Bom { whose, show, .. } => (whose, show, Shows::Events),
            What::Workflow { whose, show, .. } => (whose, show, Shows::Events),
            What::Errors { whose, show, .. } => (whose, show, Shows::Errors { tenants: whose.all_tenants }),
        };
        let asked = match &self.what {
            What::Bom { bom_id, types, .. } => {
                whose.has_one();
                Asked::events_by_bom(*bom_id, types, show.limit)
            }
            What::Workflow { workflow_id, .. } => {
                whose.has_one();
                Asked::events_by_workflow(workflow_id, show.limit)
            }
            What::Errors { hours, .. } => {
                let beside =
                    whose.organization.as_deref().filter(|_| whose.tenant.is_some() || whose.all_tenants);
                Asked::recent_errors(beside, Some(*hours), show.limit)
            }
        };
        let asked = asked.unwrap_or_else(|error| usage(error)).after(show.cursor);
        let reader = reader(config)?;
        let view = View { reader: &reader, scope: whose.scope(), all_tenants: whose.all_tenants };
        if show.explain {
            let plan =
                view.reader.explain(&view.scope, &asked).await.map_err(|failure| view.told(&failure))?;
            plan.iter().for_each(|line| output::line(line));
            return Ok(());
        }
        let mut printer = Printer::new(shows, show.json);
        let mut run = matches!(self.what, What::Workflow { .. }).then(Run::default);
        if show.follow {
            tokio::select! {
                ended = view.follow(&asked, &mut printer, &mut run) => ended?,
                _ = tokio::signal::ctrl_c() => {}
            }
        } else {
            view.print(&asked, show, &mut printer, &mut run).await?;
        }
        if let Some(summary) = run.and_then(|run| run.summary()) {
            printer.summary(&summary)?;
        }
        Ok(())
    }
}

impl Whose {
    fn scope(&self) -> AccessScope {
        match (self.tenant, &self.organization) {
            _ if self.all_tenants => AccessScope::operator(),
            (Some(tenant), _) => AccessScope::tenant(tenant),
            (None, Some(organization)) => AccessScope::tenant(tenant_of(organization)),
            (None, None) => AccessScope::tenant(Uuid::nil()), // the command line requires one of them
        }
    }

    fn has_one(&self) {
        if self.organization.is_some() && (self.tenant.is_some() || self.all_tenants) {
            usage("--organization stands for a tenant here: leave out --tenant or --all-tenants")
        }
    }
}

/// Who looks, and with what.
struct View<'a> {
    reader: &'a Reader,
    scope: AccessScope,
    all_tenants: bool,
}

impl View<'_> {
    async fn print(
        &self,
        asked: &Asked,
        show: &Show,
        printer: &mut Printer,
        run: &mut Option<Run>,
    ) -> anyhow::Result<()> {
        let mut next = None;
        if show.all {
            let bar = if show.json { output::counter("events") } else { ProgressBar::hidden() };
            let mut all = std::pin::pin!(self.reader.stream(self.scope.clone(), asked.clone()));
            while let Some(event) = all.try_next().await.map_err(|failure| self.told(&failure))? {
                printer.event(&event)?;
                run.iter_mut().for_each(|run| run.add(&event.timeline()));
                bar.inc(1);
                if output::closed() {
                    return Ok(());
                }
            }
            bar.finish_and_clear();
        } else {
            let page = self.reader.page(&self.scope, asked).await.map_err(|failure| self.told(&failure))?;
            for event in &page.events {
                printer.event(event)?;
                run.iter_mut().for_each(|run| run.add(&event.timeline()));
            }
            next = page.next;
        }
        if let Some(next) = next {
            output::note(&format!("there are more: --cursor {next} goes on, --all shows all"));
        } else if printer.is_empty() {
            output::note("no such events are stored, as far as this tenant may see");
        }
        // A workflow's state takes all of its events.
        if let Some(run) = run
            && (next.is_some() || show.cursor.is_some())
        {
            *run = self.whole_run(asked).await?;
        }
        Ok(())
    }

    async fn whole_run(&self, asked: &Asked) -> anyhow::Result<Run> {
        let mut run = Run::default();
        let all = self.reader.stream(self.scope.clone(), asked.clone().after(None));
        let mut all = std::pin::pin!(all);
        while let Some(event) = all.try_next().await.map_err(|failure| self.told(&failure))? {
            run.add(&event.timeline());
        }
        Ok(run)
    }

    /// Prints what there is, oldest first, and then what comes.
    async fn follow(
        &self,
        asked: &Asked,
        printer: &mut Printer,
        run: &mut Option<Run>,
    ) -> anyhow::Result<()> {
        let mut mark = self.reader.mark(&self.scope, asked).await.map_err(|failure| self.told(&failure))?;
        let page = self.reader.page(&self.scope, asked).await.map_err(|failure| self.told(&failure))?;
        if run.is_some() {
            *run = Some(self.whole_run(asked).await?);
        }
        // What was committed after the mark and is on the page already is not shown again.
        mark.has_seen(&page.events);
        for event in page.events.iter().rev() {
            printer.event(event)?;
        }
        let mut backoff = Backoff::default();
        let mut away = false;
        while !output::closed() {
            let pause = match self.reader.newer(&self.scope, asked, &mut mark).await {
                Ok(events) => {
                    for event in &events {
                        printer.event(event)?;
                        run.iter_mut().for_each(|run| run.add(&event.timeline()));
                    }
                    (away, backoff) = (false, Backoff::default());
                    if events.len() < Limits::MOST { LOOK_AGAIN } else { Duration::ZERO }
                }
                // Nothing but an operator mends it.
                Err(failure) if failure.class == FailureClass::Held(Hold::Operator) => {
                    return Err(self.told(&failure));
                }
                Err(failure) => {
                    if !std::mem::replace(&mut away, true) {
                        output::note(&format!("the database does not answer, and is asked again: {failure}"));
                    }
                    LOOK_AGAIN + backoff.next_delay()
                }
            };
            tokio::time::sleep(pause).await;
        }
        Ok(())
    }

    fn told(&self, failure: &StoreFailure) -> anyhow::Error {
        let purpose = if self.all_tenants { Purpose::ReadAllTenants } else { Purpose::Read };
        anyhow!("cannot read events: {}", fix::explained(failure, purpose))
    }
}
