//! Results of checks.

use serde::Serialize;

/// Result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Nothing to do.
    Ok,
    /// Works, with a disadvantage.
    Warning,
    /// Does not work, or loses or shows data.
    Wrong,
}

/// One check.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// Subject of the check.
    pub check: String,
    /// Its result.
    pub status: Status,
    /// Finding of the check.
    pub found: String,
    /// Fix; `None` for [`Status::Ok`].
    pub fix: Option<String>,
}

/// All checks, in their order.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The checks.
    pub checks: Vec<Check>,
}

impl Report {
    /// Returns the number of checks with a result.
    #[must_use]
    pub fn count(&self, status: Status) -> usize {
        self.checks.iter().filter(|check| check.status == status).count()
    }

    pub(super) fn ok(&mut self, check: &str, found: impl Into<String>) {
        self.push(check, Status::Ok, found.into(), None);
    }

    pub(super) fn warning(&mut self, check: &str, found: impl Into<String>, fix: impl Into<String>) {
        self.push(check, Status::Warning, found.into(), Some(fix.into()));
    }

    pub(super) fn wrong(&mut self, check: &str, found: impl Into<String>, fix: impl Into<String>) {
        self.push(check, Status::Wrong, found.into(), Some(fix.into()));
    }

    fn push(&mut self, check: &str, status: Status, found: String, fix: Option<String>) {
        self.checks.push(Check { check: check.to_owned(), status, found, fix });
    }
}
