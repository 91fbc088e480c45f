//! Arguments that all queries share.

use clap::Args;
use uuid::Uuid;

use crate::cli::failure::usage;
use crate::event::tenant_of;
use crate::store::read::{AccessScope, Cursor};

#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(super) struct TenantArgs {
    /// Read as this tenant
    #[arg(long, alias = "tenant-id", value_name = "UUID", conflicts_with = "all_tenants")]
    pub(super) tenant: Option<Uuid>,
    /// Read as the tenant of this organization; for errors and workflows with --tenant or --all-tenants, show only this organization's
    #[arg(long, alias = "organization-id", value_name = "ID")]
    pub(super) organization: Option<String>,
    /// Read every tenant's events, as an operator
    #[arg(long)]
    pub(super) all_tenants: bool,
}

impl TenantArgs {
    pub(super) fn scope(&self) -> AccessScope {
        match (self.tenant, &self.organization) {
            _ if self.all_tenants => AccessScope::operator(),
            (Some(tenant), _) => AccessScope::tenant(tenant),
            (None, Some(organization)) => AccessScope::tenant(tenant_of(organization)),
            (None, None) => AccessScope::tenant(Uuid::nil()), // clap requires one of the three
        }
    }

    /// Returns the scope of reads of summaries: those of all tenants need less than their events do.
    pub(super) fn summaries_scope(&self) -> AccessScope {
        if self.all_tenants { AccessScope::support() } else { self.scope() }
    }

    /// Returns the organization where it is a filter, and does not stand for the tenant.
    pub(super) fn filter(&self) -> Option<&str> {
        self.organization.as_deref().filter(|_| self.tenant.is_some() || self.all_tenants)
    }

    /// Ends with a usage error where the organization would be a filter.
    pub(super) fn without_filter(&self) {
        if self.filter().is_some() {
            usage("--organization selects the tenant here: leave out --tenant or --all-tenants")
        }
    }
}

#[derive(Debug, Args)]
pub(super) struct Options {
    /// Maximum number of events [default: 100, errors 50]
    #[arg(long, value_name = "1-1000", conflicts_with = "all", value_parser = clap::value_parser!(u16).range(1..=1000))]
    limit: Option<u16>,
    /// Continue after this cursor
    #[arg(long, value_name = "CURSOR")]
    pub(super) cursor: Option<Cursor>,
    /// Print all events, page after page
    #[arg(long, conflicts_with = "follow")]
    pub(super) all: bool,
    /// Print new events as they are stored, until Ctrl-C
    #[arg(long, conflicts_with = "cursor")]
    pub(super) follow: bool,
    /// Print the database's query plan instead of events
    #[arg(long, conflicts_with_all = ["all", "follow", "json"])]
    pub(super) explain: bool,
    /// Print one JSON object a line, with all columns
    #[arg(long)]
    pub(super) json: bool,
}

impl Options {
    /// Returns the maximum number of events, if it is given.
    pub(super) fn limit(&self) -> Option<usize> {
        self.limit.map(usize::from)
    }
}

/// Returns the usage of a query, one line for each way to say whose events are read: in one line they do not fit a terminal.
macro_rules! usage_of {
    ($query:literal) => {
        concat!(
            "cns-events query ",
            $query,
            " --tenant <UUID> [OPTIONS]\n",
            "       cns-events query ",
            $query,
            " --organization <ID> [OPTIONS]\n",
            "       cns-events query ",
            $query,
            " --all-tenants [OPTIONS]"
        )
    };
}
pub(super) use usage_of;
