//! Reads of the summaries (sections 11 and 12 of the contract), and of what follows from events where a summary is not enough.
//!
//! A read is one transaction with one snapshot, in one round trip, as every read is. What is made of summaries comes with its
//! [`Freshness`](super::Freshness); a workflow of its own is exact at once, because the events that are not summed up are folded on top.

mod boms;
mod conditions;
mod counts;
mod cursor;
mod risks;
mod run;
mod span;
mod stages;
mod workflow;
mod workflows;

pub use boms::{BomSummary, BomSums};
pub use counts::{By, Counts, CountsQuery, CountsStep, Step};
pub use cursor::WorkflowCursor;
pub use risks::{Risk, RiskPage, RiskQuery, Severity};
pub use run::WorkflowRun;
pub use span::Span;
pub use stages::{StageTimes, StagesQuery};
pub use workflow::{WorkflowAt, WorkflowDetail, Workflows};
pub use workflows::{WorkflowFilter, WorkflowPage, WorkflowQuery};

use chrono::{DateTime, Utc};

use super::query::QueryError;

/// Reads a time of a parameter.
///
/// # Errors
/// The text is not an RFC 3339 time.
pub fn time(parameter: &'static str, text: &str) -> Result<DateTime<Utc>, QueryError> {
    let time = DateTime::parse_from_rfc3339(text);
    let problem = "is not an RFC 3339 time, such as 2026-01-02T03:04:05Z";
    time.map(Into::into).map_err(|_| QueryError::new(parameter, problem))
}
