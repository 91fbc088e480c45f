//! Who reads.

use serde_json::{Map, Value};
use uuid::Uuid;

use crate::event::storable;

/// Who reads, and therefore what is seen.
#[derive(Clone, PartialEq, Eq)]
pub struct Viewer(Seen);

#[derive(Clone, PartialEq, Eq)]
enum Seen {
    /// What row-level security lets `authenticated` see with these claims, a JSON object.
    Claimed(String),
    /// Everything. The connection's own login has to be exempt from row-level security.
    Everything,
}

/// Why claims cannot be handed to the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the claims {0}")]
pub struct ClaimsError(&'static str);

impl Viewer {
    /// A tenant.
    #[must_use]
    pub fn tenant(tenant: Uuid) -> Self {
        Viewer(Seen::Claimed(format!(r#"{{"role":"authenticated","tenant_id":"{tenant}"}}"#)))
    }

    /// A tenant with all the claims of a verified token, for policies that ask for more of them than the tenant.
    /// `tenant_id` becomes `tenant`, so that the database cannot read another tenant out of them than the caller did.
    ///
    /// # Errors
    /// Where they hold what `PostgreSQL` cannot store.
    pub fn claimed(tenant: Uuid, mut claims: Map<String, Value>) -> Result<Self, ClaimsError> {
        claims.insert("tenant_id".to_owned(), Value::String(tenant.to_string()));
        let claims = Value::Object(claims).to_string();
        storable(&claims).map_err(ClaimsError)?;
        Ok(Viewer(Seen::Claimed(claims)))
    }

    /// An operator, who sees every tenant: row-level security is not asked. The database refuses a login that is not
    /// exempt from it.
    #[must_use]
    pub fn operator() -> Self {
        Viewer(Seen::Everything)
    }

    /// The statements that make the transaction's role and claims; they end with it.
    pub(super) fn set_up(&self) -> String {
        match &self.0 {
            Seen::Claimed(claims) => format!(
                "set local role authenticated; select set_config('request.jwt.claims', {}, true)",
                postgres_protocol::escape::escape_literal(claims)
            ),
            Seen::Everything => "set local row_security = off".to_owned(),
        }
    }
}

impl std::fmt::Debug for Viewer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Claims may hold names and addresses of people.
        f.write_str(match self.0 {
            Seen::Claimed(_) => "Viewer(claimed)",
            Seen::Everything => "Viewer(everything)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claims(json: &str) -> Map<String, Value> {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn the_tenant_is_the_callers_whatever_the_claims_say() {
        let viewer = Viewer::claimed(Uuid::nil(), claims(r#"{"tenant_id": 7, "sub": "x"}"#)).unwrap();
        assert!(
            viewer.set_up().contains(&format!(r#""tenant_id":"{}""#, Uuid::nil())),
            "{}",
            viewer.set_up()
        );
        assert!(!viewer.set_up().contains('7'));
    }

    #[test]
    fn claims_are_quoted() {
        let viewer = Viewer::claimed(Uuid::nil(), claims(r#"{"sub": "'; reset role; --\\'"}"#)).unwrap();
        // A doubled quote stays within the literal, and so does a doubled backslash.
        assert!(viewer.set_up().contains(r#"''; reset role; --\\\\''"#), "{}", viewer.set_up());
    }

    #[test]
    fn what_the_database_cannot_hold_is_refused() {
        assert!(Viewer::claimed(Uuid::nil(), claims(r#"{"sub": "\u0000"}"#)).is_err());
    }
}
