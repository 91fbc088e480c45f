//! The one table of fixes: the operator's next step after a failure, by SQLSTATE and by what was tried.

use super::failure::{FailureClass, StoreFailure};

/// Step that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// A worker's insert.
    Store,
    /// A read as a tenant.
    Read,
    /// A read of every tenant's events, as an operator.
    ReadAllTenants,
    /// A read of every tenant's summaries.
    ReadSummaries,
    /// Retention.
    Prune,
    /// Keeping the summaries.
    Aggregate,
}

/// Fix for a missing table, column, function or role: the migrations make all of them.
const MIGRATE: &str = "run `cns-events migrate`";

/// Returns the fix, or `None` where the failure is not listed: then the server's log has more.
#[must_use]
pub fn fix(failure: &StoreFailure, purpose: Purpose) -> Option<&'static str> {
    let Some(sqlstate) = failure.sqlstate.as_deref() else { return unanswered(failure, purpose) };
    Some(match (sqlstate, purpose) {
        ("42501", Purpose::Store) => "grant service_role to the login of database.url",
        ("42501", Purpose::Read) => "grant authenticated to the login of database.url",
        ("42501", Purpose::ReadAllTenants) => {
            "use a login that may read the table and is exempt from row-level security: create role … login bypassrls; grant select \
             on enrichment_events to …"
        }
        ("42501", Purpose::ReadSummaries) => "grant cns_events_support to the login of database.url",
        ("42501", Purpose::Prune) => "grant cns_events_retention to the login of database.url",
        ("42501", Purpose::Aggregate) => "grant cns_events_aggregate to the login of database.url",
        // The table, a column or a function; and a role, which PostgreSQL reports as an invalid value of `role`.
        ("42P01" | "42703" | "42883" | "42704" | "22023", _) => MIGRATE,
        ("25006", Purpose::Store | Purpose::Prune | Purpose::Aggregate) => {
            "point database.url at the primary; if it is the primary: its disk may be full, or alter role … reset \
             default_transaction_read_only, and the same for the database"
        }
        ("57014", Purpose::Store) => LOCKS,
        ("26000" | "42P05", Purpose::Store) => {
            "set database.prepared_statements = false: a pooler in transaction mode is in between"
        }
        _ => return None,
    })
}

/// Returns the failure's text with the fix, or else the server's own hint, as a hint on a line of its own.
#[must_use]
pub fn explained(failure: &StoreFailure, purpose: Purpose) -> String {
    match fix(failure, purpose).or(failure.hint.as_deref()) {
        Some(fix) => format!("{failure}\nhint: {fix}"),
        None => failure.to_string(),
    }
}

/// Fix for a statement that ended by its timeout.
const LOCKS: &str = "find what holds it up: select pid, pg_blocking_pids(pid), query from pg_stat_activity where wait_event_type = 'Lock'";

/// Returns the fix where the server did not answer, or not in time.
fn unanswered(failure: &StoreFailure, purpose: Purpose) -> Option<&'static str> {
    match (failure.class, purpose) {
        (FailureClass::Held(_), Purpose::Store) => Some(LOCKS),
        (FailureClass::Held(_), _) => Some("check database.url, and that PostgreSQL can be reached"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::failure::{Hold, classify};

    const PURPOSES: [Purpose; 6] = [
        Purpose::Store,
        Purpose::Read,
        Purpose::ReadAllTenants,
        Purpose::ReadSummaries,
        Purpose::Prune,
        Purpose::Aggregate,
    ];

    fn failed(sqlstate: &str) -> StoreFailure {
        StoreFailure {
            class: classify(sqlstate),
            sqlstate: Some(sqlstate.to_owned()),
            message: String::new(),
            object: None,
            about_row: false,
            hint: None,
        }
    }

    #[test]
    fn a_missing_privilege_has_a_fix_of_its_own_for_each_purpose() {
        let fixes: Vec<_> = PURPOSES.iter().map(|purpose| fix(&failed("42501"), *purpose).unwrap()).collect();
        let roles = [
            "service_role",
            "authenticated",
            "bypassrls",
            "cns_events_support",
            "cns_events_retention",
            "cns_events_aggregate",
        ];
        for (at, role) in roles.iter().enumerate() {
            assert!(fixes[at].contains(role), "{}", fixes[at]);
        }
    }

    #[test]
    fn missing_objects_are_fixed_by_migrations() {
        for purpose in PURPOSES {
            for sqlstate in ["42P01", "22023"] {
                assert_eq!(fix(&failed(sqlstate), purpose), Some(MIGRATE), "{sqlstate}");
            }
        }
    }

    #[test]
    fn a_server_that_does_not_answer_is_looked_for_and_an_unknown_failure_is_not_explained() {
        let away = StoreFailure {
            class: FailureClass::Held(Hold::Connection),
            sqlstate: None,
            message: String::new(),
            object: None,
            about_row: false,
            hint: None,
        };
        assert!(fix(&away, Purpose::Read).unwrap().contains("database.url"));
        assert_eq!(fix(&failed("XX000"), Purpose::Store), None);
        assert_eq!(fix(&StoreFailure::unreadable("x"), Purpose::Read), None);
    }
}
