//! The caller that a valid token names: a tenant, or support staff.

use axum::http::Uri;
use axum::http::uri::PathAndQuery;
use chrono::{DateTime, Utc};
use url::form_urlencoded;
use uuid::Uuid;

use super::problem::{Problem, ProblemType};
use crate::store::read::{AccessScope, QueryError};

/// Parameter by which support staff names the tenant to read as.
pub(super) const TENANT: &str = "tenant";

/// The caller that a valid token names.
#[derive(Clone, Debug)]
pub struct Caller {
    access: Access,
    /// Subject of a token of support staff.
    subject: Option<String>,
    /// End of the token.
    pub expires_at: DateTime<Utc>,
}

#[derive(Clone, Debug)]
enum Access {
    /// A tenant's own token.
    Tenant(Uuid, AccessScope),
    /// Support staff: the summaries of all tenants.
    Support,
    /// Support staff that reads as this tenant.
    SupportAs(Uuid),
}

impl Caller {
    pub(super) fn tenant(tenant: Uuid, scope: AccessScope, expires_at: DateTime<Utc>) -> Self {
        Caller { access: Access::Tenant(tenant, scope), subject: None, expires_at }
    }

    pub(super) fn support(subject: Option<&str>, expires_at: DateTime<Utc>) -> Self {
        Caller { access: Access::Support, subject: subject.map(str::to_owned), expires_at }
    }

    /// Returns the tenant that a token names; `None` for one of support staff.
    #[must_use]
    pub fn own_tenant(&self) -> Option<Uuid> {
        match self.access {
            Access::Tenant(tenant, _) => Some(tenant),
            Access::Support | Access::SupportAs(_) => None,
        }
    }

    /// Returns the tenant whose limits apply: the token's own, so that support staff takes nothing of a tenant's; the nil UUID for all
    /// of support staff.
    pub(super) fn limited_as(&self) -> Uuid {
        self.own_tenant().unwrap_or_default()
    }

    /// Returns whether a read needs the role of support staff.
    pub(super) fn is_support(&self) -> bool {
        matches!(self.access, Access::Support | Access::SupportAs(_))
    }

    /// Returns the scope of reads of one tenant.
    pub(super) fn scope(&self) -> Result<AccessScope, Problem> {
        Ok(self.tenant_and_scope()?.1)
    }

    /// Returns the tenant that reads are of, and their scope.
    pub(super) fn tenant_and_scope(&self) -> Result<(Uuid, AccessScope), Problem> {
        match &self.access {
            Access::Tenant(tenant, scope) => Ok((*tenant, scope.clone())),
            Access::SupportAs(tenant) => Ok((*tenant, AccessScope::support_as(*tenant))),
            Access::Support => {
                let problem = "is required with a token of support staff: this endpoint reads one tenant";
                Err(QueryError::new(TENANT, problem).into())
            }
        }
    }

    /// Returns the scope of reads that may be of all tenants.
    pub(super) fn summaries_scope(&self) -> AccessScope {
        match &self.access {
            Access::Support => AccessScope::support(),
            Access::Tenant(_, scope) => scope.clone(),
            Access::SupportAs(tenant) => AccessScope::support_as(*tenant),
        }
    }

    /// Takes the tenant to read as from the query of the request.
    pub(super) fn reading_as_of(self, uri: &mut Uri) -> Result<Self, Problem> {
        match take_tenant(uri).as_deref() {
            None => Ok(self),
            Some([tenant]) => self.reading_as(tenant, uri.path()),
            Some(_) => Err(QueryError::new(TENANT, "is given twice").into()),
        }
    }

    /// Returns the caller that reads as this tenant, and logs it.
    pub(super) fn reading_as(self, tenant: &str, path: &str) -> Result<Self, Problem> {
        if !self.is_support() {
            let refused = "tenant: this token reads its own tenant; only support staff names one";
            return Err(Problem::new(ProblemType::Forbidden, refused));
        }
        let tenant = Uuid::try_parse(tenant).map_err(|_| QueryError::new(TENANT, "is not a UUID"))?;
        let subject = self.subject.as_deref().unwrap_or("-");
        tracing::info!(subject, %tenant, path, "support staff reads as a tenant: {subject:?} as {tenant}");
        Ok(Caller { access: Access::SupportAs(tenant), ..self })
    }
}

/// Removes the parameter from a query, and returns its values; `None` where it is not there.
fn take_tenant(uri: &mut Uri) -> Option<Vec<String>> {
    let query = uri.query()?;
    let (mut values, mut rest) = (Vec::new(), Vec::new());
    for pair in query.split('&') {
        match form_urlencoded::parse(pair.as_bytes()).next() {
            Some((name, value)) if name == TENANT => values.push(value.into_owned()),
            _ => rest.push(pair),
        }
    }
    if values.is_empty() {
        return None;
    }
    let query = rest.join("&");
    let query = if query.is_empty() { String::new() } else { format!("?{query}") };
    // A part of what was a path and a query is one.
    if let Ok(rest) = format!("{}{query}", uri.path()).parse::<PathAndQuery>() {
        *uri = rest.into();
    }
    Some(values)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(uri: &str) -> (Option<Vec<String>>, String) {
        let mut uri: Uri = uri.parse().unwrap();
        (take_tenant(&mut uri), uri.to_string())
    }

    #[test]
    fn the_tenant_is_taken_from_the_query_and_the_rest_stays_as_it_is() {
        let some = |values: &[&str]| Some(values.iter().map(|value| (*value).to_owned()).collect::<Vec<_>>());
        assert_eq!(taken("/a"), (None, "/a".to_owned()));
        assert_eq!(taken("/a?b=%20c&d"), (None, "/a?b=%20c&d".to_owned()));
        assert_eq!(taken("/a?tenant=x"), (some(&["x"]), "/a".to_owned()));
        assert_eq!(
            taken("/a%20?b=%20c&%74enant=x%2b&d&tenant"),
            (some(&["x+", ""]), "/a%20?b=%20c&d".to_owned())
        );
        assert_eq!(taken("/a?tenant_id=x"), (None, "/a?tenant_id=x".to_owned()));
    }

    #[test]
    fn only_support_staff_names_a_tenant() {
        let (own, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let mut uri: Uri = format!("/a?tenant={other}").parse().unwrap();
        let tenant = Caller::tenant(own, AccessScope::tenant(own), Utc::now());
        assert!(tenant.clone().reading_as_of(&mut uri.clone()).is_err());
        assert!(Caller::support(None, Utc::now()).scope().is_err());
        let support = Caller::support(Some("s"), Utc::now()).reading_as_of(&mut uri).unwrap();
        assert_eq!((uri.to_string().as_str(), support.limited_as()), ("/a", Uuid::nil()));
        assert!(support.scope().unwrap() == AccessScope::support_as(other));
        assert!(tenant.scope().unwrap() == AccessScope::tenant(own));
    }
}
