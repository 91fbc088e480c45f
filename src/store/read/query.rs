//! Queries for events, and their statements.

use chrono::{TimeDelta, Utc};
use diesel::dsl::sql;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{Bool, Text, Timestamptz, Uuid as SqlUuid};
use uuid::Uuid;

use super::cursor::Cursor;
use super::limits::Limits;
use crate::event::{MAX_ID_CHARS, MAX_TYPE_CHARS};
use crate::store::failure::StoreFailure;
use crate::store::schema::enrichment_events as t;
use crate::store::statement::Typed;

/// A query for events, newest first. A limit of `None` is the default limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    filter: Filter,
    limit: usize,
    after: Option<Cursor>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Filter {
    Bom { bom_id: Uuid, types: Vec<String> },
    Workflow(String),
    Errors { organization: Option<String>, hours: u32 },
}

/// Error for a parameter that a query cannot have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{parameter}: {problem}")]
pub struct QueryError {
    /// Name of the parameter, as in a URL.
    pub parameter: &'static str,
    /// Problem, and the values that are allowed.
    pub problem: String,
}

impl QueryError {
    /// Returns an error about a parameter.
    pub fn new(parameter: &'static str, problem: impl Into<String>) -> Self {
        QueryError { parameter, problem: problem.into() }
    }
}

impl Query {
    /// Returns a query for the events of a BOM: those of these types, or all if there are none.
    ///
    /// # Errors
    /// A limit out of 1-1000, a type that no event can have, or more than 50 types.
    pub fn events_by_bom<T: Into<String>>(
        bom_id: Uuid,
        types: impl IntoIterator<Item = T>,
        limit: Option<usize>,
    ) -> Result<Self, QueryError> {
        let types: Vec<String> = types.into_iter().map(Into::into).collect();
        if types.len() > Limits::MAX_TYPES {
            return Err(QueryError::new("type", format!("has more than {} types", Limits::MAX_TYPES)));
        }
        for event_type in &types {
            text("type", event_type, MAX_TYPE_CHARS)?;
        }
        Query::new(Filter::Bom { bom_id, types }, limit, Limits::DEFAULT_EVENTS)
    }

    /// Returns a query for the events of a workflow.
    ///
    /// # Errors
    /// A limit out of 1-1000, or an id that no workflow can have.
    pub fn events_by_workflow(
        workflow_id: impl Into<String>,
        limit: Option<usize>,
    ) -> Result<Self, QueryError> {
        Query::new(Filter::Workflow(self::workflow_id(workflow_id.into())?), limit, Limits::DEFAULT_EVENTS)
    }

    /// Returns a query for the events of type `error` of the last hours (default 24): those of one of the tenant's organizations, or
    /// of all.
    ///
    /// # Errors
    /// A limit out of 1-1000, hours out of 1-8760, or an organization that no event can have.
    pub fn recent_errors(
        organization: Option<&str>,
        hours: Option<u32>,
        limit: Option<usize>,
    ) -> Result<Self, QueryError> {
        let hours = self::hours(hours)?;
        if let Some(organization) = organization {
            text("organization", organization, usize::MAX)?;
        }
        Query::new(
            Filter::Errors { organization: organization.map(str::to_owned), hours },
            limit,
            Limits::DEFAULT_ERRORS,
        )
    }

    fn new(filter: Filter, limit: Option<usize>, default: usize) -> Result<Self, QueryError> {
        Ok(Query { filter, limit: limit_of(limit, default)?, after: None })
    }

    /// Returns the query for the events after a cursor.
    #[must_use]
    pub fn after(self, cursor: impl Into<Option<Cursor>>) -> Self {
        Query { after: cursor.into(), ..self }
    }

    /// Returns the maximum events of a page.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn limited(self, limit: usize) -> Self {
        Query { limit, ..self }
    }

    /// Returns the statement for the first `max_rows` rows after the cursor.
    pub(super) fn page(&self, max_rows: usize) -> Result<Typed, StoreFailure> {
        let max_rows = i64::try_from(max_rows).unwrap_or(i64::MAX);
        let mut rows = self.rows().order((t::created_at.desc(), t::id.desc())).limit(max_rows);
        if let Some(Cursor { created_at, id }) = self.after {
            // Diesel cannot express a comparison of row values. It is one range of the index.
            rows = rows.filter(
                sql::<Bool>("(created_at, id) < (")
                    .bind::<Timestamptz, _>(created_at)
                    .sql(", ")
                    .bind::<SqlUuid, _>(id)
                    .sql(")"),
            );
        }
        Typed::of(&rows)
    }

    /// Returns the statement for the ids of rows whose transactions are not older than this one, oldest event first.
    pub(super) fn committed_since(&self, transaction: &str) -> Result<Typed, StoreFailure> {
        // Ages, because transaction ids wrap around. A row that is older than 2^31 transactions has a negative age.
        let since =
            sql::<Bool>("age(xmin) between 0 and age(").bind::<Text, _>(transaction.to_owned()).sql("::xid)");
        Typed::of(&self.rows().filter(since).order((t::created_at.asc(), t::id.asc())).select(t::id))
    }

    /// Returns the statement for the rows with these ids, oldest event first.
    pub(super) fn with_ids(&self, ids: &[Uuid]) -> Result<Typed, StoreFailure> {
        Typed::of(&self.rows().filter(t::id.eq_any(ids)).order((t::created_at.asc(), t::id.asc())))
    }

    /// Selects all columns, in the schema's order.
    fn rows(&self) -> t::BoxedQuery<'_, Pg> {
        let rows = t::table.into_boxed();
        match &self.filter {
            Filter::Bom { bom_id, types } if types.is_empty() => rows.filter(t::bom_id.eq(bom_id)),
            Filter::Bom { bom_id, types } => {
                rows.filter(t::bom_id.eq(bom_id)).filter(t::event_type.eq_any(types))
            }
            Filter::Workflow(workflow_id) => rows.filter(t::workflow_id.eq(workflow_id)),
            Filter::Errors { organization, hours } => {
                let since = Utc::now() - TimeDelta::hours(i64::from(*hours));
                // A literal and not a parameter: the partial index of errors has the same condition.
                let rows = rows.filter(sql::<Bool>("event_type = 'error'")).filter(t::created_at.gt(since));
                match organization {
                    Some(organization) => rows.filter(t::organization_id.eq(organization)),
                    None => rows,
                }
            }
        }
    }
}

/// Returns a statement that needs what every read needs and finds no row: its id is the nil UUID.
pub(super) fn no_event() -> Result<Typed, StoreFailure> {
    Typed::of(&t::table.filter(t::id.eq(Uuid::nil())).count())
}

/// Returns the statement for the rows with these ids.
pub(super) fn by_id(ids: &[Uuid]) -> Result<Typed, StoreFailure> {
    Typed::of(&t::table.filter(t::id.eq_any(ids)))
}

/// Returns the statement for the number of a BOM's events.
pub(super) fn count(bom_id: Uuid) -> Result<Typed, StoreFailure> {
    Typed::of(&t::table.filter(t::bom_id.eq(bom_id)).count())
}

/// Checks the id of a workflow.
pub(super) fn workflow_id(id: String) -> Result<String, QueryError> {
    // The empty id is allowed (section 2 of the contract).
    if !id.is_empty() {
        text("workflow_id", &id, MAX_ID_CHARS)?;
    }
    Ok(id)
}

/// Returns the number of rows of a page: `given`, or the default.
pub(super) fn limit_of(given: Option<usize>, default: usize) -> Result<usize, QueryError> {
    let limit = given.unwrap_or(default);
    if !(1..=Limits::MAX_EVENTS).contains(&limit) {
        return Err(QueryError::new("limit", format!("must be from 1 to {}", Limits::MAX_EVENTS)));
    }
    Ok(limit)
}

/// Returns the maximum age of events in hours: `given`, or the default.
pub(super) fn hours(given: Option<u32>) -> Result<u32, QueryError> {
    let hours = given.unwrap_or(Limits::DEFAULT_HOURS);
    if !(1..=Limits::MAX_HOURS).contains(&hours) {
        return Err(QueryError::new("hours", format!("must be from 1 to {}", Limits::MAX_HOURS)));
    }
    Ok(hours)
}

/// Checks a text that a row may have.
pub(super) fn text(parameter: &'static str, text: &str, max_chars: usize) -> Result<(), QueryError> {
    let problem = if text.is_empty() {
        "is empty".to_owned()
    } else if text.contains('\0') {
        "contains a NUL character, which no event can have".to_owned()
    } else if text.chars().nth(max_chars).is_some() {
        format!("is longer than {max_chars} characters")
    } else {
        return Ok(());
    };
    Err(QueryError::new(parameter, problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_those_of_the_python_logger() {
        let bom = Query::events_by_bom(Uuid::nil(), [""; 0], None).unwrap();
        assert_eq!(bom.limit(), 100);
        assert_eq!(Query::events_by_workflow("w", None).unwrap().limit(), 100);
        let errors = Query::recent_errors(None, None, None).unwrap();
        assert_eq!((errors.limit(), errors.filter), (50, Filter::Errors { organization: None, hours: 24 }));
    }

    #[test]
    fn errors_name_the_parameter() {
        let bom = |types: &[&str], limit| Query::events_by_bom(Uuid::nil(), types.iter().copied(), limit);
        let long = "x".repeat(256);
        for (refused, parameter) in [
            (bom(&[], Some(0)), "limit"),
            (bom(&[], Some(1001)), "limit"),
            (bom(&[""], None), "type"),
            (bom(&["a\0"], None), "type"),
            (bom(&["x"; 51], None), "type"),
            (bom(&[&long], None), "type"),
            (Query::events_by_workflow(long.as_str(), None), "workflow_id"),
            (Query::recent_errors(None, Some(0), None), "hours"),
            (Query::recent_errors(None, Some(8761), None), "hours"),
            (Query::recent_errors(Some("\0"), None, None), "organization"),
        ] {
            assert_eq!(refused.unwrap_err().parameter, parameter);
        }
        assert!(bom(&["ü".repeat(100).as_str()], Some(1000)).is_ok(), "lengths are characters");
    }
}
