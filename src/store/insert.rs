//! The insert of a batch, and the lookup of its duplicates.

use chrono::{DateTime, Utc};
use diesel::QueryDsl;
use diesel::dsl::sql;
use diesel::pg::Pg;
use diesel::query_builder::QueryFragment;
use diesel::serialize::{self, IsNull, Output, ToSql};
use diesel::sql_types::{Array, Bool, Jsonb, Nullable, SingleValue, Text, Timestamptz, Uuid as SqlUuid};
use std::borrow::Cow;
use std::io::Write;
use uuid::Uuid;

use super::on_duplicate::OnDuplicate;
use super::schema::enrichment_events as t;
use crate::event::{Event, Source, empty_object};

diesel::define_sql_function! {
    /// Returns one row for each element. Names are qualified, so that no function of another schema takes their place.
    #[sql_name = "pg_catalog.unnest"]
    fn unnest<T: SingleValue>(elements: Array<T>) -> T;
}

/// An event with the id of its row. The id stays the same for every attempt of the insert, so that the worker recognises its own
/// row after a commit whose answer was lost.
#[derive(Clone, Debug)]
pub struct Row<'a> {
    /// `UUIDv7`.
    pub id: Uuid,
    /// The event to store.
    pub event: Event<'a>,
}

impl<'a> Row<'a> {
    /// Returns the row of an event, with a new id.
    #[must_use]
    pub fn new(event: Event<'a>) -> Self {
        Row { id: Uuid::now_v7(), event }
    }

    /// Returns a row like that of an event for a probe, which is always rolled back.
    pub(super) fn probe_like(event: Event<'a>) -> Self {
        let mut row = Row::new(event);
        row.event.event_id = probe_id(row.id).into();
        row
    }

    /// Returns an invented row for a probe, which is always rolled back.
    pub(super) fn probe() -> Self {
        let id = Uuid::now_v7();
        let object = Cow::Borrowed(empty_object());
        let event = Event {
            event_id: probe_id(id).into(),
            event_type: "probe".into(),
            routing_key: "probe".into(),
            bom_id: id,
            tenant_id: id,
            organization_id: None,
            project_id: None,
            user_id: None,
            source: Source::default(),
            workflow_id: None,
            state: object.clone(),
            payload: object,
            created_at: Utc::now(),
        };
        Row::new(event)
    }
}

/// `event_id` of a probe.
fn probe_id(id: Uuid) -> String {
    format!("cns-events-probe-{id}")
}

/// JSON text for a `jsonb` column. Version 1 of the binary format is the byte 1, then the text.
#[derive(Debug, diesel::expression::AsExpression)]
#[diesel(sql_type = Jsonb)]
struct Json<'a>(&'a str);

impl ToSql<Jsonb, Pg> for Json<'_> {
    fn to_sql<'b>(&'b self, out: &mut Output<'b, '_, Pg>) -> serialize::Result {
        out.write_all(&[1])?;
        out.write_all(self.0.as_bytes())?;
        Ok(IsNull::No)
    }
}

/// A batch as columns: one array for each column of the table.
pub(super) struct Columns<'a> {
    id: Vec<Uuid>,
    event_id: Vec<&'a str>,
    event_type: Vec<&'a str>,
    routing_key: Vec<&'a str>,
    bom_id: Vec<Uuid>,
    tenant_id: Vec<Uuid>,
    organization_id: Vec<Option<&'a str>>,
    project_id: Vec<Option<Uuid>>,
    user_id: Vec<Option<Uuid>>,
    source: Vec<&'static str>,
    workflow_id: Vec<Option<&'a str>>,
    state: Vec<Json<'a>>,
    payload: Vec<Json<'a>>,
    created_at: Vec<DateTime<Utc>>,
}

impl<'a> Columns<'a> {
    pub(super) fn of(rows: &'a [Row<'_>]) -> Self {
        fn column<'a, T>(rows: &'a [Row<'_>], value: impl Fn(&'a Event<'_>) -> T) -> Vec<T> {
            rows.iter().map(|row| value(&row.event)).collect()
        }
        Columns {
            id: rows.iter().map(|row| row.id).collect(),
            event_id: column(rows, |event| event.event_id.as_ref()),
            event_type: column(rows, |event| event.event_type.as_ref()),
            routing_key: column(rows, |event| event.routing_key.as_ref()),
            bom_id: column(rows, |event| event.bom_id),
            tenant_id: column(rows, |event| event.tenant_id),
            organization_id: column(rows, |event| event.organization_id.as_deref()),
            project_id: column(rows, |event| event.project_id),
            user_id: column(rows, |event| event.user_id),
            source: column(rows, |event| event.source.name()),
            workflow_id: column(rows, |event| event.workflow_id.as_deref()),
            state: column(rows, |event| Json(event.state.get())),
            payload: column(rows, |event| Json(event.payload.get())),
            created_at: column(rows, |event| event.created_at),
        }
    }

    /// Returns `INSERT … SELECT unnest(…) …`, one statement for the whole batch.
    ///
    /// `OnDuplicate::Skip` is `ON CONFLICT DO NOTHING`, without a conflict target and without `RETURNING`: either would need a
    /// `SELECT` privilege, which the worker's role does not have.
    ///
    /// `pending_list_limit` comes from [`super::pending_list`]. The settings end with the statement.
    pub(super) fn insert(
        &self,
        on_duplicate: OnDuplicate,
        pending_list_limit: &'static str,
    ) -> Box<dyn QueryFragment<Pg> + Send + '_> {
        let insert = diesel::insert_into(t::table)
            .values(
                diesel::select((
                    unnest::<SqlUuid, _>(&self.id),
                    unnest::<Text, _>(&self.event_id),
                    unnest::<Text, _>(&self.event_type),
                    unnest::<Nullable<Text>, _>(&self.routing_key),
                    unnest::<SqlUuid, _>(&self.bom_id),
                    unnest::<SqlUuid, _>(&self.tenant_id),
                    unnest::<Nullable<Text>, _>(&self.organization_id),
                    unnest::<Nullable<SqlUuid>, _>(&self.project_id),
                    unnest::<Nullable<SqlUuid>, _>(&self.user_id),
                    unnest::<Text, _>(&self.source),
                    unnest::<Nullable<Text>, _>(&self.workflow_id),
                    unnest::<Jsonb, _>(&self.state),
                    unnest::<Jsonb, _>(&self.payload),
                    unnest::<Timestamptz, _>(&self.created_at),
                ))
                .filter(
                    sql::<Bool>("pg_catalog.set_config('gin_pending_list_limit', ")
                        .bind::<Text, _>(pending_list_limit)
                        .sql(", true) is not null and pg_catalog.set_config('work_mem', '64MB', true) is not null"),
                ),
            )
            .into_columns((
                t::id,
                t::event_id,
                t::event_type,
                t::routing_key,
                t::bom_id,
                t::tenant_id,
                t::organization_id,
                t::project_id,
                t::user_id,
                t::source,
                t::workflow_id,
                t::state,
                t::payload,
                t::created_at,
            ));
        match on_duplicate {
            OnDuplicate::Fail => Box::new(insert),
            OnDuplicate::Skip => Box::new(insert.on_conflict_do_nothing()),
        }
    }

    /// Selects the rows of the batch that are not in the table under their own id: their number, the digest of the stored row (null
    /// where there is none), whether it has the same tenant, and their own digest.
    pub(super) fn duplicates(&self) -> impl QueryFragment<Pg> + '_ {
        diesel::sql_query(
            "select i.number, s.digest, s.same_tenant, enrichment_event_digest(i.event_type, i.bom_id, i.tenant_id, \
             i.organization_id, i.project_id, i.user_id, i.source, i.workflow_id, i.state, i.payload) \
             from rows from (pg_catalog.unnest($1), pg_catalog.unnest($2), pg_catalog.unnest($3), pg_catalog.unnest($4), \
             pg_catalog.unnest($5), pg_catalog.unnest($6), pg_catalog.unnest($7), pg_catalog.unnest($8), \
             pg_catalog.unnest($9), pg_catalog.unnest($10), pg_catalog.unnest($11), pg_catalog.unnest($12)) \
             with ordinality as i (id, event_id, event_type, bom_id, tenant_id, organization_id, project_id, \
             user_id, source, workflow_id, state, payload, number) left join enrichment_events_lookup($2, $5) s \
             on s.event_id operator(pg_catalog.=) i.event_id and s.tenant_id operator(pg_catalog.=) i.tenant_id where s.id is distinct from i.id",
        )
        .bind::<Array<SqlUuid>, _>(&self.id)
        .bind::<Array<Text>, _>(&self.event_id)
        .bind::<Array<Text>, _>(&self.event_type)
        .bind::<Array<SqlUuid>, _>(&self.bom_id)
        .bind::<Array<SqlUuid>, _>(&self.tenant_id)
        .bind::<Array<Nullable<Text>>, _>(&self.organization_id)
        .bind::<Array<Nullable<SqlUuid>>, _>(&self.project_id)
        .bind::<Array<Nullable<SqlUuid>>, _>(&self.user_id)
        .bind::<Array<Text>, _>(&self.source)
        .bind::<Array<Nullable<Text>>, _>(&self.workflow_id)
        .bind::<Array<Jsonb>, _>(&self.state)
        .bind::<Array<Jsonb>, _>(&self.payload)
    }
}
