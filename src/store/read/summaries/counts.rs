//! Numbers of events by hour or day, and of workflows by status.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::try_join3;
use serde::Serialize;
use tokio_postgres::Row;
use uuid::Uuid;

use super::super::freshness::{Freshness, SummaryError, state};
use super::super::query::QueryError;
use super::super::reader::Reader;
use super::super::rows::rows;
use super::super::scope::AccessScope;
use super::conditions::{Conditions, Value};
use super::span::{DAY, HOUR, Span};
use crate::named::named_enum;
use crate::store::failure::StoreFailure;
use crate::store::statement::Typed;

/// Statuses that are counted by their own name, those with the most workflows: producers may state any.
const MAX_STATUSES: u32 = 50;

named_enum! {
    /// Length of the steps that events are counted by.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Step {
        /// An hour.
        Hour = "hour",
        /// A day, in UTC.
        Day = "day",
    }
}

named_enum! {
    /// Property that events are counted by.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum By {
        /// The event type; those outside of the contract's table count as `other`.
        Type = "type",
        /// The source.
        Source = "source",
    }
}

/// Numbers of events within a span of time, and of all workflows by status.
#[derive(Clone, Debug)]
pub struct Counts {
    /// The span.
    pub span: Span,
    /// Steps that have events, oldest first.
    pub steps: Vec<CountsStep>,
    /// Number of workflows by status, whenever they were active; the 50 most frequent statuses.
    pub workflows: BTreeMap<String, i64>,
    /// Time and position that the numbers are of.
    pub freshness: Freshness,
}

/// Numbers of events of one step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct CountsStep {
    /// Begin of the step.
    pub at: DateTime<Utc>,
    /// Number of events.
    pub events: i64,
    /// Number of events by type, or by source.
    pub counts: BTreeMap<String, i64>,
}

impl Counts {
    /// Returns the numbers of events of all steps.
    #[must_use]
    pub fn totals(&self) -> BTreeMap<String, i64> {
        let mut totals = BTreeMap::new();
        for (name, events) in self.steps.iter().flat_map(|step| &step.counts) {
            *totals.entry(name.clone()).or_default() += events;
        }
        totals
    }
}

/// Question for numbers of events.
#[derive(Clone, Copy, Debug)]
pub struct CountsQuery {
    span: Span,
    step: Step,
    by: By,
}

impl CountsQuery {
    /// Returns a question. The span is by default the last 24 hours, or the last 30 days by day.
    ///
    /// # Errors
    /// A span of more than 31 days by hour, or 400 by day, or one that ends before it begins.
    pub fn new(
        from: Option<DateTime<Utc>>,
        to: Option<DateTime<Utc>>,
        step: Step,
        by: By,
    ) -> Result<Self, QueryError> {
        let span = match step {
            Step::Hour => Span::new(from, to, HOUR, DAY, Span::MAX_DAYS_BY_HOUR),
            Step::Day => Span::new(from, to, DAY, TimeDelta::days(30), Span::MAX_DAYS),
        };
        Ok(CountsQuery { span: span?, step, by })
    }

    fn statement(&self) -> Result<Typed, StoreFailure> {
        let at = match self.step {
            Step::Hour => "hour",
            Step::Day => "date_trunc('day', hour, 'UTC')",
        };
        let name = match self.by {
            By::Type => "event_type",
            By::Source => "source",
        };
        let mut wanted = Conditions::default();
        wanted.add("hour >= ? and hour < ?", [Value::Time(self.span.from), Value::Time(self.span.to)]);
        let select = format!("select {at} as at, {name}, sum(events)::bigint from event_counts");
        wanted.statement(&select, "group by 1, 2 order by 1, 2")
    }
}

/// Builds the statement for the number of workflows by status, of one BOM or of all.
pub(super) fn statuses(bom: Option<Uuid>) -> Result<Typed, StoreFailure> {
    let mut wanted = Conditions::default();
    if let Some(bom) = bom {
        wanted.add("bom_id = ?", [Value::Uuid(bom)]);
    }
    let most_frequent = format!("group by status order by count(*) desc, status limit {MAX_STATUSES}");
    wanted.statement("select status, count(*) from workflow_runs", &most_frequent)
}

/// Reads the rows of [`statuses`].
pub(super) fn by_name(rows: &[Row]) -> Result<BTreeMap<String, i64>, StoreFailure> {
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

impl Reader {
    /// Returns the numbers of events within a span of time, and of workflows by status.
    ///
    /// # Errors
    /// As [`Reader::page`]; also where there are no summaries yet.
    pub async fn counts(&self, scope: &AccessScope, query: &CountsQuery) -> Result<Counts, SummaryError> {
        let (counts, statuses) = (query.statement()?, statuses(None)?);
        let read = self.connections.transaction(scope, async |client| {
            Ok(try_join3(state(client, scope), rows(client, &counts), rows(client, &statuses)).await?)
        });
        let (state, counts, statuses) = read.await?;
        let mut steps: Vec<CountsStep> = Vec::new();
        for row in &counts {
            let (at, name, events) = read_count(row)?;
            match steps.last_mut().filter(|step| step.at == at) {
                Some(step) => {
                    step.events += events;
                    step.counts.insert(name, events);
                }
                None => steps.push(CountsStep { at, events, counts: BTreeMap::from([(name, events)]) }),
            }
        }
        Ok(Counts { span: query.span, steps, workflows: by_name(&statuses)?, freshness: state.summed()? })
    }
}

fn read_count(row: &Row) -> Result<(DateTime<Utc>, String, i64), StoreFailure> {
    Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))
}
