//! Recent risk alerts, newest first.

use chrono::{DateTime, TimeDelta, Utc};
use futures_util::future::try_join;
use serde::Serialize;
use tokio_postgres::Row;
use uuid::Uuid;

use super::super::cursor::Cursor;
use super::super::event::Moment;
use super::super::freshness::here;
use super::super::limits::Limits;
use super::super::query::{QueryError, hours, limit_of};
use super::super::reader::Reader;
use super::super::rows::rows;
use super::super::scope::AccessScope;
use super::conditions::{Conditions, Value};
use crate::named::named_enum;
use crate::store::failure::StoreFailure;
use crate::store::journal::Position;
use crate::store::statement::Typed;

/// Severity by the rules of [`crate::timeline`]: as it is given, else by the score. A score that is not a number of 64 bits is none.
const SEVERITY: &str = "case when payload ->> 'severity' in ('critical', 'high', 'medium') then payload ->> 'severity' \
    when score >= 80 then 'critical' when score >= 60 then 'high' else 'medium' end";

/// Fields of a risk alert, from its payload: texts are cut, and only a number that the reader can hold is a score.
const FIELDS: &str = "select id, event_id, created_at, bom_id, workflow_id, payload, \
    case when jsonb_typeof(payload -> 'component_id') in ('string', 'number', 'boolean') then left(payload ->> 'component_id', 255) end \
        as component_id, \
    case when jsonb_typeof(payload -> 'risk_score') <> 'number' then null \
        when abs((payload -> 'risk_score')::numeric) <= 1.7976931348623157e308 then (payload -> 'risk_score')::float8 end as score \
    from enrichment_events where event_type = 'risk_alert'";

named_enum! {
    /// Severity of a risk alert.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub enum Severity {
        /// From a score of 80 on.
        Critical = "critical",
        /// From a score of 60 on.
        High = "high",
        /// The others.
        Medium = "medium",
    }
}

/// A risk alert, without its payload.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct Risk {
    /// Deduplication key of the event, chosen by the producer.
    #[schema(max_length = 255)]
    pub event_id: String,
    /// Time of the event.
    pub created_at: DateTime<Utc>,
    /// BOM that the event is about.
    pub bom_id: Uuid,
    /// Workflow that the event belongs to.
    #[schema(required, max_length = 255)]
    pub workflow_id: Option<String>,
    /// Component that is at risk.
    #[schema(required, max_length = 255)]
    pub component_id: Option<String>,
    /// Score, usually from 0 to 100.
    #[schema(required)]
    pub risk_score: Option<f64>,
    /// Severity: `critical`, `high` or `medium`.
    #[schema(example = "critical")]
    pub severity: String,
    #[serde(skip)]
    id: Uuid,
}

impl Risk {
    fn from_row(row: &Row) -> Result<Self, StoreFailure> {
        Ok(Risk {
            id: row.try_get(0)?,
            event_id: row.try_get(1)?,
            created_at: row.try_get::<_, Moment>(2)?.0,
            bom_id: row.try_get(3)?,
            workflow_id: row.try_get(4)?,
            component_id: row.try_get(5)?,
            risk_score: row.try_get(6)?,
            severity: row.try_get(7)?,
        })
    }
}

/// Query for risk alerts, newest first.
#[derive(Clone, Debug)]
pub struct RiskQuery {
    severity: Option<Severity>,
    hours: u32,
    limit: usize,
    after: Option<Cursor>,
}

/// Risk alerts, newest first.
#[derive(Clone, Debug)]
pub struct RiskPage {
    /// At most as many as the query's limit.
    pub risks: Vec<Risk>,
    /// Cursor of the next page; `None` at the end.
    pub next: Option<Cursor>,
    /// Position of the read; `None` on a standby.
    pub position: Option<Position>,
}

impl RiskQuery {
    /// Returns a query for the risk alerts of the last hours (default 24), of one severity or of all.
    ///
    /// # Errors
    /// A limit out of 1-1000, or hours out of 1-8760.
    pub fn new(
        severity: Option<Severity>,
        hours_back: Option<u32>,
        limit: Option<usize>,
    ) -> Result<Self, QueryError> {
        let limit = limit_of(limit, Limits::DEFAULT_EVENTS)?;
        Ok(RiskQuery { severity, hours: hours(hours_back)?, limit, after: None })
    }

    /// Returns the query for the alerts after a cursor.
    #[must_use]
    pub fn after(self, cursor: impl Into<Option<Cursor>>) -> Self {
        RiskQuery { after: cursor.into(), ..self }
    }

    fn statement(&self) -> Result<Typed, StoreFailure> {
        let mut wanted = Conditions::default();
        let since = Utc::now() - TimeDelta::hours(self.hours.into());
        wanted.add("created_at > ?", [Value::Time(since)]);
        if let Some(severity) = self.severity {
            wanted.add(&format!("{SEVERITY} = ?"), [Value::Text(severity.name().to_owned())]);
        }
        if let Some(Cursor { created_at, id }) = self.after {
            wanted.add("(created_at, id) < (?, ?)", [Value::Time(created_at), Value::Uuid(id)]);
        }
        let select = format!(
            "select id, event_id, created_at, bom_id, workflow_id, component_id, score, {SEVERITY} from ({FIELDS}) e"
        );
        wanted.statement(&select, &format!("order by created_at desc, id desc limit {}", self.limit + 1))
    }
}

impl Reader {
    /// Returns the risk alerts after the query's cursor, at most as many as its limit.
    ///
    /// # Errors
    /// As [`Reader::page`].
    pub async fn risks(&self, scope: &AccessScope, query: &RiskQuery) -> Result<RiskPage, StoreFailure> {
        let statement = query.statement()?;
        let read = self
            .connections
            .transaction(scope, async |client| Ok(try_join(here(client), rows(client, &statement)).await?));
        let (position, rows) = read.await?;
        let mut risks: Vec<_> = rows.iter().map(Risk::from_row).collect::<Result<_, _>>()?;
        let more = risks.len() > query.limit;
        risks.truncate(query.limit);
        let last = risks.last().filter(|_| more);
        let next = last.map(|risk| Cursor { created_at: risk.created_at, id: risk.id });
        Ok(RiskPage { risks, next, position })
    }

    /// Returns the lines of the `EXPLAIN` of a query for risk alerts.
    ///
    /// # Errors
    /// As [`Reader::page`].
    pub async fn explain_risks(
        &self,
        scope: &AccessScope,
        query: &RiskQuery,
    ) -> Result<Vec<String>, StoreFailure> {
        let lines = self.rows(scope, &query.statement()?.explained()).await?;
        Ok(lines.iter().map(|row| row.get(0)).collect())
    }
}
