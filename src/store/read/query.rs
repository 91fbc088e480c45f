//! What can be asked, and the statements that ask it.

use chrono::{TimeDelta, Utc};
use diesel::dsl::sql;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{Bool, Text, Timestamptz, Uuid as SqlUuid};
use uuid::Uuid;

use super::cursor::Cursor;
use crate::event::{MAX_ID_CHARS, MAX_TYPE_CHARS};
use crate::store::failure::StoreFailure;
use crate::store::schema::enrichment_events as t;
use crate::store::statement::Typed;

/// What a query may ask for, and what it asks for where nothing is said: the same in Rust, on the command line and over HTTP.
#[derive(Debug)]
pub struct Limits;

impl Limits {
    /// Events of a page at most.
    pub const MOST: usize = 1000;
    /// Events of a BOM or workflow, unless said otherwise: as the Python logger had it.
    pub const EVENTS: usize = 100;
    /// Errors, unless said otherwise: as the Python logger had it.
    pub const ERRORS: usize = 50;
    /// How far back errors are looked for, in hours: as the Python logger had it.
    pub const HOURS: u32 = 24;
    /// How far back they can be looked for: a year.
    pub const MOST_HOURS: u32 = 8760;
    /// Types that can be asked for at once.
    pub const TYPES: usize = 50;
}

/// A question, newest events first. Where the limit is `None` it is the default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Query {
    of: Of,
    limit: usize,
    after: Option<Cursor>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Of {
    Bom { bom_id: Uuid, types: Vec<String> },
    Workflow(String),
    Errors { organization: Option<String>, hours: u32 },
}

/// What cannot be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{parameter}: {problem}")]
pub struct QueryError {
    /// What it is about, by the name that it has in a URL.
    pub parameter: &'static str,
    /// What is wrong with it, and what would do.
    pub problem: String,
}

impl QueryError {
    /// Something wrong with a parameter.
    pub fn new(parameter: &'static str, problem: impl Into<String>) -> Self {
        QueryError { parameter, problem: problem.into() }
    }
}

impl Query {
    /// Events of a BOM: of these types, or of all where there are none.
    ///
    /// # Errors
    /// A limit out of 1-1000, a type that no event can have, or more than fifty types.
    pub fn events_by_bom<T: Into<String>>(
        bom_id: Uuid,
        types: impl IntoIterator<Item = T>,
        limit: Option<usize>,
    ) -> Result<Self, QueryError> {
        let types: Vec<String> = types.into_iter().map(Into::into).collect();
        if types.len() > Limits::TYPES {
            return Err(QueryError::new("type", format!("has more than {} types", Limits::TYPES)));
        }
        for of in &types {
            text("type", of, MAX_TYPE_CHARS)?;
        }
        Query::new(Of::Bom { bom_id, types }, limit, Limits::EVENTS)
    }

    /// Events of a workflow.
    ///
    /// # Errors
    /// A limit out of 1-1000, or an id that no workflow can have.
    pub fn events_by_workflow(
        workflow_id: impl Into<String>,
        limit: Option<usize>,
    ) -> Result<Self, QueryError> {
        let workflow_id = workflow_id.into();
        // An empty one is one too (section 2 of the contract).
        if !workflow_id.is_empty() {
            text("workflow_id", &workflow_id, MAX_ID_CHARS)?;
        }
        Query::new(Of::Workflow(workflow_id), limit, Limits::EVENTS)
    }

    /// Events of type `error` of the last hours (24 where it is `None`): of one of the tenant's organizations, or of all.
    ///
    /// # Errors
    /// A limit out of 1-1000, hours out of 1-8760, or an organization that no event can have.
    pub fn recent_errors(
        organization: Option<&str>,
        hours: Option<u32>,
        limit: Option<usize>,
    ) -> Result<Self, QueryError> {
        let hours = hours.unwrap_or(Limits::HOURS);
        if !(1..=Limits::MOST_HOURS).contains(&hours) {
            return Err(QueryError::new("hours", format!("must be from 1 to {}", Limits::MOST_HOURS)));
        }
        if let Some(organization) = organization {
            text("organization", organization, usize::MAX)?;
        }
        Query::new(Of::Errors { organization: organization.map(str::to_owned), hours }, limit, Limits::ERRORS)
    }

    fn new(of: Of, limit: Option<usize>, default: usize) -> Result<Self, QueryError> {
        let limit = limit.unwrap_or(default);
        if !(1..=Limits::MOST).contains(&limit) {
            return Err(QueryError::new("limit", format!("must be from 1 to {}", Limits::MOST)));
        }
        Ok(Query { of, limit, after: None })
    }

    /// From a cursor on.
    #[must_use]
    pub fn after(self, cursor: impl Into<Option<Cursor>>) -> Self {
        Query { after: cursor.into(), ..self }
    }

    /// How many events a page has at most.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn limited(self, limit: usize) -> Self {
        Query { limit, ..self }
    }

    /// The first `most` rows behind the cursor.
    pub(super) fn page(&self, most: usize) -> Result<Typed, StoreFailure> {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let mut rows = self.rows().order((t::created_at.desc(), t::id.desc())).limit(most);
        if let Some(Cursor { created_at, id }) = self.after {
            // A row of values, which Diesel has no word for: it is one range of the index.
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

    /// Ids of the rows of transactions that are not older than this one, the oldest event first.
    pub(super) fn committed_since(&self, transaction: &str) -> Result<Typed, StoreFailure> {
        // Ages, because the ids of transactions come round again. A row that is two thousand million transactions old has an age
        // below 0.
        let since =
            sql::<Bool>("age(xmin) between 0 and age(").bind::<Text, _>(transaction.to_owned()).sql("::xid)");
        Typed::of(&self.rows().filter(since).order((t::created_at.asc(), t::id.asc())).select(t::id))
    }

    /// These rows, the oldest event first.
    pub(super) fn these(&self, ids: &[Uuid]) -> Result<Typed, StoreFailure> {
        Typed::of(&self.rows().filter(t::id.eq_any(ids)).order((t::created_at.asc(), t::id.asc())))
    }

    /// All columns, in the schema's order.
    fn rows(&self) -> t::BoxedQuery<'_, Pg> {
        let rows = t::table.into_boxed();
        match &self.of {
            Of::Bom { bom_id, types } if types.is_empty() => rows.filter(t::bom_id.eq(bom_id)),
            Of::Bom { bom_id, types } => {
                rows.filter(t::bom_id.eq(bom_id)).filter(t::event_type.eq_any(types))
            }
            Of::Workflow(workflow_id) => rows.filter(t::workflow_id.eq(workflow_id)),
            Of::Errors { organization, hours } => {
                let since = Utc::now() - TimeDelta::hours(i64::from(*hours));
                // Not a parameter: the index of errors has the same words.
                let rows = rows.filter(sql::<Bool>("event_type = 'error'")).filter(t::created_at.gt(since));
                match organization {
                    Some(organization) => rows.filter(t::organization_id.eq(organization)),
                    None => rows,
                }
            }
        }
    }
}

/// Whether there is a row with an id that none has: it takes what every read takes, and no time.
pub(super) fn nothing() -> Result<Typed, StoreFailure> {
    Typed::of(&t::table.filter(t::id.eq(Uuid::nil())).count())
}

/// How many events a BOM has.
pub(super) fn count(bom_id: Uuid) -> Result<Typed, StoreFailure> {
    Typed::of(&t::table.filter(t::bom_id.eq(bom_id)).count())
}

fn text(parameter: &'static str, text: &str, most: usize) -> Result<(), QueryError> {
    let problem = if text.is_empty() {
        "is empty".to_owned()
    } else if text.contains('\0') {
        "holds a NUL, which no event has".to_owned()
    } else if text.chars().nth(most).is_some() {
        format!("is longer than {most} characters")
    } else {
        return Ok(());
    };
    Err(QueryError::new(parameter, problem))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_originals_defaults() {
        let bom = Query::events_by_bom(Uuid::nil(), [""; 0], None).unwrap();
        assert_eq!(bom.limit(), 100);
        assert_eq!(Query::events_by_workflow("w", None).unwrap().limit(), 100);
        let errors = Query::recent_errors(None, None, None).unwrap();
        assert_eq!((errors.limit(), errors.of), (50, Of::Errors { organization: None, hours: 24 }));
    }

    #[test]
    fn what_cannot_be_asked_is_named() {
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
