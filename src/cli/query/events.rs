//! `cns-events query bom`, `workflow` and `errors`: events.

use anyhow::anyhow;
use clap::Subcommand;
use futures_util::TryStreamExt;
use indicatif::ProgressBar;
use uuid::Uuid;

use super::args::{Options, TenantArgs, usage_of};
use crate::cli::failure::{Failure, usage};
use crate::config::Config;
use crate::store::StoreFailure;
use crate::store::fix::{self, Purpose};
use crate::store::read::{AccessScope, Limits, Query as EventQuery, QueryError, Reader, TailItem};
use crate::terminal::bars;
use crate::terminal::events::{Columns, Printer};
use crate::terminal::output;
use crate::timeline::Run;

#[derive(Debug, Subcommand)]
pub(super) enum Events {
    /// Print the events of a BOM
    #[command(override_usage = usage_of!("bom <BOM_ID>"))]
    Bom {
        bom_id: Uuid,
        /// Print only these event types
        #[arg(long = "type", value_name = "TYPE,…", value_delimiter = ',')]
        types: Vec<String>,
        #[command(flatten)]
        tenant: TenantArgs,
        #[command(flatten)]
        options: Options,
    },
    /// Print the events of a workflow and its state
    #[command(override_usage = usage_of!("workflow <WORKFLOW_ID>"))]
    Workflow {
        workflow_id: String,
        #[command(flatten)]
        tenant: TenantArgs,
        #[command(flatten)]
        options: Options,
    },
    /// Print recent errors
    #[command(override_usage = usage_of!("errors"))]
    Errors {
        /// Maximum age of the errors, in hours
        #[arg(long, value_name = "HOURS", default_value_t = Limits::DEFAULT_HOURS, value_parser = clap::value_parser!(u32).range(1..=8760))]
        hours: u32,
        #[command(flatten)]
        tenant: TenantArgs,
        #[command(flatten)]
        options: Options,
    },
}

impl Events {
    pub(super) async fn run(&self, config: &Config) -> Result<(), Failure> {
        let (Events::Bom { tenant, options, .. }
        | Events::Workflow { tenant, options, .. }
        | Events::Errors { tenant, options, .. }) = self;
        let columns = match self {
            Events::Errors { .. } => Columns::Errors { tenants: tenant.all_tenants },
            _ => Columns::Events,
        };
        let query =
            self.event_query(tenant, options).unwrap_or_else(|error| usage(error)).after(options.cursor);
        let view = View {
            reader: config.database.reader().map_err(anyhow::Error::from)?,
            scope: tenant.scope(),
            all_tenants: tenant.all_tenants,
        };
        if options.explain {
            let plan = view.reader.explain(&view.scope, &query).await;
            plan.map_err(|failure| view.error(&failure))?.iter().for_each(|line| output::line(line));
            return Ok(());
        }
        let mut printer = Printer::new(columns, options.json);
        if options.follow {
            tokio::select! {
                ended = view.follow(&query, &mut printer) => ended?,
                _ = tokio::signal::ctrl_c() => {}
            }
        } else {
            view.print(&query, options.all, &mut printer).await?;
        }
        if matches!(self, Events::Workflow { .. }) && !output::closed() {
            view.print_summary(query, &printer).await?;
        }
        Ok(())
    }

    fn event_query(&self, tenant: &TenantArgs, options: &Options) -> Result<EventQuery, QueryError> {
        match self {
            Events::Bom { bom_id, types, .. } => {
                tenant.without_filter();
                EventQuery::events_by_bom(*bom_id, types, options.limit())
            }
            Events::Workflow { workflow_id, .. } => {
                tenant.without_filter();
                EventQuery::events_by_workflow(workflow_id, options.limit())
            }
            Events::Errors { hours, .. } => {
                EventQuery::recent_errors(tenant.filter(), Some(*hours), options.limit())
            }
        }
    }
}

/// A reader and its scope.
struct View {
    reader: Reader,
    scope: AccessScope,
    all_tenants: bool,
}

impl View {
    async fn print(&self, query: &EventQuery, all: bool, printer: &mut Printer) -> anyhow::Result<()> {
        let mut next = None;
        if all {
            let bar = if printer.json() { bars::counter("events") } else { ProgressBar::hidden() };
            let mut events = std::pin::pin!(self.reader.stream(self.scope.clone(), query.clone()));
            while let Some(event) = events.try_next().await.map_err(|failure| self.error(&failure))? {
                printer.event(&event)?;
                bar.inc(1);
                if output::closed() {
                    return Ok(());
                }
            }
            bar.finish_and_clear();
        } else {
            let page = self.reader.page(&self.scope, query).await.map_err(|failure| self.error(&failure))?;
            for event in &page.events {
                printer.event(event)?;
            }
            next = page.next;
        }
        if let Some(next) = next {
            output::note(&format!(
                "there are more events: --cursor {next} prints the next, --all prints all"
            ));
        } else if printer.is_empty() {
            let to = if self.all_tenants { "" } else { " are visible to this tenant" };
            output::note(&format!("no such events{to}"));
        }
        Ok(())
    }

    /// Prints the newest page, oldest event first, and then new events.
    async fn follow(&self, query: &EventQuery, printer: &mut Printer) -> anyhow::Result<()> {
        let mut tail = std::pin::pin!(self.reader.tail(self.scope.clone(), query.clone()));
        while let Some(item) = tail.try_next().await.map_err(|failure| self.error(&failure))? {
            match item {
                TailItem::Event(event) => printer.event(&event)?,
                TailItem::Interrupted(failure) => {
                    output::note(&format!("the database does not answer, retrying: {failure}"));
                }
            }
            if output::closed() {
                break;
            }
        }
        Ok(())
    }

    /// Prints the state of a workflow, which follows from all of its events.
    async fn print_summary(&self, query: EventQuery, printer: &Printer) -> anyhow::Result<()> {
        let mut run = Run::default();
        let mut events = std::pin::pin!(self.reader.stream(self.scope.clone(), query.after(None)));
        while let Some(event) = events.try_next().await.map_err(|failure| self.error(&failure))? {
            run.add(&event.timeline());
        }
        run.summary().map_or(Ok(()), |summary| printer.summary(&summary))
    }

    fn error(&self, failure: &StoreFailure) -> anyhow::Error {
        let purpose = if self.all_tenants { Purpose::ReadAllTenants } else { Purpose::Read };
        anyhow!("cannot read events: {}", fix::explained(failure, purpose))
    }
}
