//! Events as the sums take them: by their ids, or all of a span of time, one after the other.

use std::pin::pin;

use chrono::{DateTime, Utc};
use diesel::sql_types::{Array, Text, Uuid as SqlUuid};
use futures_util::TryStreamExt;
use postgres_types::FromSql;
use serde_json::value::RawValue;
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use crate::store::failure::StoreFailure;
use crate::store::read::{Document, Moment};
use crate::store::statement::Typed;
use crate::summaries::RunKey;
use crate::timeline::Event;

/// Columns of [`SummedEvent`], in its order.
const COLUMNS: &str = "select id, tenant_id, event_type::text, source::text, bom_id, workflow_id::text, organization_id, created_at, state, payload \
     from enrichment_events";

/// Earliest time of a sum: the year 1.
const FIRST_TIME: DateTime<Utc> = DateTime::from_timestamp(-62_135_596_800, 0).unwrap();

/// Event as the sums take it.
pub(super) struct SummedEvent {
    id: Uuid,
    pub(super) tenant_id: Uuid,
    event_type: String,
    pub(super) source: String,
    bom_id: Uuid,
    workflow_id: Option<String>,
    organization_id: Option<String>,
    pub(super) created_at: DateTime<Utc>,
    state: Box<RawValue>,
    payload: Box<RawValue>,
}

impl SummedEvent {
    /// Returns the event as the timeline folds it.
    pub(super) fn timeline(&self) -> Event<'_> {
        Event {
            id: self.id,
            event_type: &self.event_type,
            bom_id: self.bom_id,
            workflow_id: self.workflow_id.as_deref(),
            organization_id: self.organization_id.as_deref(),
            created_at: self.created_at,
            state: &self.state,
            payload: &self.payload,
        }
    }

    /// Reads a row; `None` for one that has no place in any sum: an older table may allow nulls.
    fn of(row: &Row) -> Result<Option<Self>, StoreFailure> {
        let given = |column| row.try_get::<_, Option<Uuid>>(column);
        let (Some(id), Some(tenant_id), Some(bom_id)) = (given(0)?, given(1)?, given(4)?) else {
            return Ok(None);
        };
        let text = |column| row.try_get::<_, Option<String>>(column);
        Ok(Some(SummedEvent {
            id,
            tenant_id,
            event_type: text(2)?.unwrap_or_default(),
            source: text(3)?.unwrap_or_default(),
            bom_id,
            workflow_id: text(5)?,
            organization_id: text(6)?,
            // PostgreSQL reads no year 0.
            created_at: row.try_get::<_, Moment>(7)?.0.max(FIRST_TIME),
            state: document(row, 8)?,
            payload: document(row, 9)?,
        }))
    }
}

fn document(row: &Row, column: usize) -> Result<Box<RawValue>, StoreFailure> {
    /// A document, or null.
    struct Nullable(Option<Document>);
    impl<'a> FromSql<'a> for Nullable {
        fn from_sql(
            of: &postgres_types::Type,
            raw: &'a [u8],
        ) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
            Document::from_sql(of, raw).map(|document| Nullable(Some(document)))
        }
        fn from_sql_null(_: &postgres_types::Type) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
            Ok(Nullable(None))
        }
        fn accepts(of: &postgres_types::Type) -> bool {
            Document::accepts(of)
        }
    }
    Ok(match row.try_get::<_, Nullable>(column)?.0 {
        Some(document) => document.0,
        None => {
            RawValue::from_string("{}".to_owned()).map_err(|_| StoreFailure::unexpected("no document"))?
        }
    })
}

/// Reads the events with these ids, and hands each to `take`.
pub(super) async fn by_id(
    client: &Client,
    ids: &[Uuid],
    take: impl FnMut(SummedEvent),
) -> Result<(), StoreFailure> {
    let query =
        diesel::sql_query(format!("{COLUMNS} where id = any ($1)")).bind::<Array<SqlUuid>, _>(ids.to_vec());
    each(client, &Typed::of(&query)?, take).await
}

/// Reads the events of workflows within a span of time, and hands each to `take`.
pub(super) async fn of_runs(
    client: &Client,
    keys: &[RunKey],
    span: &str,
    take: impl FnMut(SummedEvent),
) -> Result<(), StoreFailure> {
    let of_runs = format!(
        "{COLUMNS} where {span} and (tenant_id, workflow_id, bom_id) in (select * from unnest($1, $2, $3))"
    );
    let query = diesel::sql_query(of_runs)
        .bind::<Array<SqlUuid>, _>(keys.iter().map(|key| key.0).collect::<Vec<_>>())
        .bind::<Array<Text>, _>(keys.iter().map(|key| key.1.as_str()).collect::<Vec<_>>())
        .bind::<Array<SqlUuid>, _>(keys.iter().map(|key| key.2).collect::<Vec<_>>());
    each(client, &Typed::of(&query)?, take).await
}

async fn each(
    client: &Client,
    statement: &Typed,
    mut take: impl FnMut(SummedEvent),
) -> Result<(), StoreFailure> {
    let mut rows = pin!(statement.query(client).await?);
    while let Some(row) = rows.try_next().await? {
        if let Some(event) = SummedEvent::of(&row)? {
            take(event);
        }
    }
    Ok(())
}

/// Reads many events in portions, through a cursor of the server, so that the connection is free in between.
pub(super) struct Scan<'a> {
    client: &'a Client,
}

/// Events of a portion. They are held in memory, and each may have a megabyte.
const PORTION: u32 = 200;

impl<'a> Scan<'a> {
    /// Opens the cursor, for the events of a condition. A connection has one scan at a time.
    pub(super) async fn open(client: &'a Client, condition: &str) -> Result<Self, StoreFailure> {
        client
            .batch_execute(&format!(
                "declare enrichment_scan no scroll cursor for {COLUMNS} where {condition}"
            ))
            .await?;
        Ok(Scan { client })
    }

    /// Reads the next portion and hands each event to `take`. Returns whether there may be more.
    pub(super) async fn next(&mut self, mut take: impl FnMut(SummedEvent)) -> Result<bool, StoreFailure> {
        let fetch = Typed::of(&diesel::sql_query(format!("fetch {PORTION} from enrichment_scan")))?;
        let mut rows = pin!(fetch.query(self.client).await?);
        let mut found = false;
        while let Some(row) = rows.try_next().await? {
            found = true;
            if let Some(event) = SummedEvent::of(&row)? {
                take(event);
            }
        }
        Ok(found)
    }

    /// Closes the cursor.
    pub(super) async fn close(self) -> Result<(), StoreFailure> {
        Ok(self.client.batch_execute("close enrichment_scan").await?)
    }
}

/// Writes a time as SQL reads it.
pub(super) fn literal(time: DateTime<Utc>) -> String {
    format!("timestamptz '{}'", time.format("%Y-%m-%d %H:%M:%S%.6f+00"))
}
