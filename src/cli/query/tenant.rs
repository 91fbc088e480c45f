//! The tenant that a query reads as.

use clap::Args;
use uuid::Uuid;

use crate::cli::usage;
use crate::event::tenant_of;
use crate::store::read::AccessScope;

#[derive(Debug, Args)]
#[group(required = true, multiple = true)]
pub(super) struct TenantArgs {
    /// Read as this tenant
    #[arg(long, value_name = "UUID", conflicts_with = "all_tenants")]
    pub(super) tenant: Option<Uuid>,
    /// Read as the tenant of this organization; for errors with --tenant or --all-tenants, show only this organization's
    #[arg(long, value_name = "ID")]
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
