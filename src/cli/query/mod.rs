//! `cns-events query`: the events of a BOM or a workflow, recent errors, and summaries.

mod args;
mod events;
mod summaries;

use clap::{Args, Subcommand};

use super::failure::Failure;
use crate::config::Config;

#[derive(Debug, Args)]
#[command(
    after_help = "Prints the newest event first, with --follow the oldest. Reads as one tenant, whose rows the database selects by row-level \
    security; --all-tenants needs a login that is exempt from it, or for summaries a member of cns_events_support."
)]
pub(super) struct Query {
    #[command(subcommand)]
    target: Target,
}

#[derive(Debug, Subcommand)]
enum Target {
    #[command(flatten)]
    Events(Box<events::Events>),
    /// Print workflows, newest activity first
    Workflows(Box<summaries::Workflows>),
    /// Print numbers of events by hour or day, and of workflows by status
    Summary(summaries::Summary),
}

impl Query {
    pub(super) async fn run(&self, config: &Config) -> Result<(), Failure> {
        match &self.target {
            Target::Events(events) => events.run(config).await,
            Target::Workflows(workflows) => workflows.run(config).await,
            Target::Summary(summary) => summary.run(config).await,
        }
    }
}
