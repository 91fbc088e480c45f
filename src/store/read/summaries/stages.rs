//! Durations of stages, from the histograms.

use chrono::{DateTime, Utc};
use futures_util::future::try_join;
use serde::Serialize;
use tokio_postgres::Row;

use super::super::freshness::{Freshness, SummaryError, state};
use super::super::query::QueryError;
use super::super::reader::Reader;
use super::super::rows::rows;
use super::super::scope::AccessScope;
use super::conditions::{Conditions, Value};
use super::span::{DAY, HOUR, Span};
use crate::store::failure::StoreFailure;
use crate::summaries::histogram::quantile;

/// Stages that are listed, those with the most events: producers may name any.
const MAX_STAGES: u32 = 100;

/// Durations of one stage, in milliseconds, exact to 10 %.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct StageTimes {
    /// The stage.
    #[schema(max_length = 100, example = "enrichment")]
    pub stage: String,
    /// Number of completed stages with a duration.
    pub count: i64,
    /// Median, in milliseconds.
    pub p50: f64,
    /// 90th percentile, in milliseconds.
    pub p90: f64,
    /// 99th percentile, in milliseconds.
    pub p99: f64,
}

impl StageTimes {
    fn of(stage: String, histogram: &[(i16, i64)]) -> Option<Self> {
        Some(StageTimes {
            stage,
            count: histogram.iter().map(|(_, events)| events).sum(),
            p50: quantile(histogram, 0.5)?,
            p90: quantile(histogram, 0.9)?,
            p99: quantile(histogram, 0.99)?,
        })
    }
}

/// Question for durations of stages within a span of time.
#[derive(Clone, Copy, Debug)]
pub struct StagesQuery {
    span: Span,
}

impl StagesQuery {
    /// Returns a question. The span is by default the last 24 hours.
    ///
    /// # Errors
    /// A span of more than 400 days, or one that ends before it begins.
    pub fn new(from: Option<DateTime<Utc>>, to: Option<DateTime<Utc>>) -> Result<Self, QueryError> {
        Ok(StagesQuery { span: Span::new(from, to, HOUR, DAY, Span::MAX_DAYS)? })
    }

    /// Returns the span.
    #[must_use]
    pub fn span(&self) -> Span {
        self.span
    }
}

impl Reader {
    /// Returns the durations of the stages that were completed within a span of time, by stage.
    ///
    /// # Errors
    /// As [`Reader::page`]; also where there are no summaries yet.
    pub async fn stages(
        &self,
        scope: &AccessScope,
        query: &StagesQuery,
    ) -> Result<(Vec<StageTimes>, Freshness), SummaryError> {
        let Span { from, to } = query.span;
        let mut wanted = Conditions::default();
        wanted.add("hour >= ? and hour < ?", [Value::Time(from), Value::Time(to)]);
        let before =
            "with h as materialized (select stage, bucket, sum(events)::bigint as events from stage_times";
        let after = format!(
            "group by stage, bucket) select stage, bucket, events from h where stage in \
             (select stage from h group by stage order by sum(events) desc, stage limit {MAX_STAGES}) order by stage, bucket"
        );
        let statement = wanted.statement(before, &after)?;
        let read = self.connections.transaction(scope, async |client| {
            Ok(try_join(state(client, scope), rows(client, &statement)).await?)
        });
        let (state, rows) = read.await?;
        let rows: Vec<_> = rows.iter().map(read_bucket).collect::<Result<_, _>>()?;
        let by_stage = rows.chunk_by(|(stage, ..), (next, ..)| stage == next);
        let times = by_stage.filter_map(|rows| {
            let histogram: Vec<_> = rows.iter().map(|(_, bucket, events)| (*bucket, *events)).collect();
            StageTimes::of(rows.first()?.0.clone(), &histogram)
        });
        Ok((times.collect(), state.summed()?))
    }
}

fn read_bucket(row: &Row) -> Result<(String, i16, i64), StoreFailure> {
    Ok((row.try_get(0)?, row.try_get(1)?, row.try_get(2)?))
}
