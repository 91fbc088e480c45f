//! Who reads.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::event::storable;

/// The role that reads: the one that Supabase has too.
const READER: &str = "authenticated";

/// Who reads, and therefore what is seen.
#[derive(Clone, PartialEq, Eq)]
pub struct AccessScope(Seen);

#[derive(Clone, PartialEq, Eq)]
enum Seen {
    /// What row-level security lets `authenticated` see with these claims, a JSON object.
    Claimed(String),
    /// Everything. The connection's own login has to be exempt from row-level security.
    Everything,
}

/// Why a subject cannot be told to the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the subject {0}")]
pub struct SubjectError(&'static str);

impl AccessScope {
    /// A tenant.
    #[must_use]
    pub fn tenant(tenant: Uuid) -> Self {
        AccessScope::claiming(tenant, None)
    }

    /// Somebody of a tenant, for policies that ask who it is.
    ///
    /// The database is told no other claim of a token: one that its users write themselves, or a role of the issuer's own,
    /// could make a policy of the table show more than the tenant's rows.
    ///
    /// # Errors
    /// Where the subject holds what `PostgreSQL` cannot store.
    pub fn user(tenant: Uuid, subject: &str) -> Result<Self, SubjectError> {
        storable(&Value::from(subject).to_string()).map_err(SubjectError)?;
        Ok(AccessScope::claiming(tenant, Some(subject)))
    }

    /// The tenant in both places where a policy may look for it.
    fn claiming(tenant: Uuid, subject: Option<&str>) -> Self {
        let mut claims = json!({"role": READER, "tenant_id": tenant, "app_metadata": {"tenant_id": tenant}});
        if let Some(subject) = subject {
            claims["sub"] = subject.into();
        }
        AccessScope(Seen::Claimed(ascii(&claims.to_string())))
    }

    /// An operator, who sees every tenant: row-level security is not asked. The database refuses a login that is not
    /// exempt from it.
    #[must_use]
    pub fn operator() -> Self {
        AccessScope(Seen::Everything)
    }

    /// The statements that make the transaction's role and claims; they end with it.
    pub(super) fn set_up(&self) -> String {
        match &self.0 {
            Seen::Claimed(claims) => format!(
                "set local role {READER}; select set_config('request.jwt.claims', {}, true)",
                postgres_protocol::escape::escape_literal(claims)
            ),
            Seen::Everything => "set local row_security = off".to_owned(),
        }
    }
}

/// The same JSON in ASCII: a database in another encoding cannot fail to understand it.
fn ascii(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for character in json.chars() {
        if character.is_ascii() {
            text.push(character);
        } else {
            // Outside of ASCII there are only strings.
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
        // Claims may hold names and addresses of people.
        f.write_str(match self.0 {
            Seen::Claimed(_) => "AccessScope(claimed)",
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
