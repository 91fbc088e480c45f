//! The access scope of a read: one tenant's rows, every tenant's summaries, or every row.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::event::storable;

/// Role of a read as a tenant, as in Supabase.
const READER: &str = "authenticated";

/// Role of support staff, which reads the summaries of all tenants and no event.
const SUPPORT: &str = "cns_events_support";

/// Rows that a read may see.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct AccessScope(Seen);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Seen {
    /// Rows that row-level security shows to `authenticated` with these claims, a JSON object.
    Claimed(String),
    /// The same, where the connection's login is a member of [`SUPPORT`]; otherwise the read fails.
    ClaimedBySupport(String),
    /// The summaries of every tenant.
    Summaries,
    /// Every row. The connection's login must be exempt from row-level security.
    Everything,
}

/// Error for a subject that the database cannot hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the subject {0}")]
pub struct SubjectError(&'static str);

impl AccessScope {
    /// Returns the scope of a tenant.
    #[must_use]
    pub fn tenant(tenant: Uuid) -> Self {
        AccessScope::claiming(tenant, None)
    }

    /// Returns the scope of a tenant's user, for policies that use the subject.
    ///
    /// No other claim of a token reaches the database: a claim that users can write themselves, or a role of the issuer, could make
    /// a policy show more than the tenant's rows.
    ///
    /// # Errors
    /// The subject contains what `PostgreSQL` cannot store.
    pub fn user(tenant: Uuid, subject: &str) -> Result<Self, SubjectError> {
        storable(&Value::from(subject).to_string()).map_err(SubjectError)?;
        Ok(AccessScope::claiming(tenant, Some(subject)))
    }

    /// Returns the scope of support staff that reads as a tenant. The database refuses a login that is not a member of
    /// `cns_events_support`.
    #[must_use]
    pub fn support_as(tenant: Uuid) -> Self {
        AccessScope(Seen::ClaimedBySupport(claims(tenant, None)))
    }

    /// Returns the scope of support staff: the summaries of all tenants, and no event. The database refuses a login that is not a
    /// member of `cns_events_support`.
    #[must_use]
    pub fn support() -> Self {
        AccessScope(Seen::Summaries)
    }

    fn claiming(tenant: Uuid, subject: Option<&str>) -> Self {
        AccessScope(Seen::Claimed(claims(tenant, subject)))
    }

    /// Returns the scope of an operator: the rows of every tenant, without row-level security. The database refuses a login that is
    /// not exempt from it.
    #[must_use]
    pub fn operator() -> Self {
        AccessScope(Seen::Everything)
    }

    /// Returns whether the scope's role may read the journal.
    pub(super) fn has_journal(&self) -> bool {
        !matches!(self.0, Seen::Summaries)
    }

    /// Returns the statements that set the transaction's role and claims, which end with it.
    pub(super) fn set_up(&self) -> String {
        let claimed = |claims: &str| {
            let claims = postgres_protocol::escape::escape_literal(claims);
            format!("set local role {READER}; select set_config('request.jwt.claims', {claims}, true)")
        };
        match &self.0 {
            Seen::Claimed(claims) => claimed(claims),
            // The first role is one that the login may take, or the transaction ends.
            Seen::ClaimedBySupport(claims) => format!("set local role {SUPPORT}; {}", claimed(claims)),
            Seen::Summaries => format!("set local role {SUPPORT}"),
            Seen::Everything => "set local row_security = off".to_owned(),
        }
    }
}

/// Returns claims that have the tenant in both places where a policy may look for it.
fn claims(tenant: Uuid, subject: Option<&str>) -> String {
    let mut claims = json!({"role": READER, "tenant_id": tenant, "app_metadata": {"tenant_id": tenant}});
    if let Some(subject) = subject {
        claims["sub"] = subject.into();
    }
    ascii(&claims.to_string())
}

/// Returns the same JSON in ASCII, which a database in any encoding can read.
fn ascii(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for character in json.chars() {
        if character.is_ascii() {
            text.push(character);
        } else {
            // JSON has other characters only within strings.
            let units = character
                .encode_utf16(&mut [0; 2])
                .iter()
                .map(|unit| format!("\\u{unit:04x}"))
                .collect::<String>();
            text.push_str(&units);
        }
    }
    text
}

impl std::fmt::Debug for AccessScope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Claims may contain personal data.
        f.write_str(match self.0 {
            Seen::Claimed(_) => "AccessScope(claimed)",
            Seen::ClaimedBySupport(_) => "AccessScope(claimed by support)",
            Seen::Summaries => "AccessScope(summaries)",
            Seen::Everything => "AccessScope(everything)",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_is_quoted() {
        let scope = AccessScope::user(Uuid::nil(), "'; reset role; --\\'").unwrap();
        // A doubled quote stays within the literal, and so does a doubled backslash.
        assert!(scope.set_up().contains(r#"''; reset role; --\\\\''"#), "{}", scope.set_up());
    }

    #[test]
    fn claims_are_ascii() {
        assert_eq!(ascii("{\"a\":\"ü\u{1f600}\"}"), r#"{"a":"\u00fc\ud83d\ude00"}"#);
        assert!(AccessScope::user(Uuid::nil(), "Žižek 😀").unwrap().set_up().is_ascii());
    }

    #[test]
    fn what_the_database_cannot_hold_is_refused() {
        assert!(AccessScope::user(Uuid::nil(), "a\0").is_err());
    }
}
