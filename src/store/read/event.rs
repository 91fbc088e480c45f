//! A stored event: the table's columns.

use chrono::{DateTime, Utc};
use postgres_types::{FromSql, Type, accepts};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio_postgres::Row;
use uuid::Uuid;

use super::cursor::YEARS;
use crate::store::endpoint::describe;
use crate::store::failure::StoreFailure;

/// One stored event, as the table has it. The two documents are the text that the database gives, however deep they are.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Event)]
pub struct StoredEvent {
    /// The row.
    pub id: Uuid,
    /// The deduplication key, as the producer chose it.
    #[schema(max_length = 255)]
    pub event_id: String,
    /// What kind of event.
    #[schema(max_length = 100, example = "enrichment_progress")]
    pub event_type: String,
    /// The key that it was published under.
    #[schema(required, max_length = 255, example = "cns.enrichment.progress")]
    pub routing_key: Option<String>,
    /// The BOM that it is about.
    pub bom_id: Uuid,
    /// Whose it is.
    pub tenant_id: Uuid,
    /// The organization as the producer names it.
    #[schema(required)]
    pub organization_id: Option<String>,
    /// The project, where there is one.
    #[schema(required)]
    pub project_id: Option<Uuid>,
    /// The user, where there is one.
    #[schema(required)]
    pub user_id: Option<Uuid>,
    /// Who caused it: `customer` or `staff`.
    #[schema(max_length = 20, example = "customer")]
    pub source: String,
    /// The workflow that it is of.
    #[schema(required, max_length = 255)]
    pub workflow_id: Option<String>,
    /// The workflow's state as the producer knew it.
    #[schema(value_type = Object)]
    pub state: Box<RawValue>,
    /// What happened.
    #[schema(value_type = Object)]
    pub payload: Box<RawValue>,
    /// When it happened.
    pub created_at: DateTime<Utc>,
}

impl StoredEvent {
    /// Returns the event as the timeline folds it.
    #[must_use]
    pub fn timeline(&self) -> crate::timeline::Event<'_> {
        crate::timeline::Event {
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

    /// Reads a row that has the schema's columns, in their order.
    pub(super) fn from_row(row: &Row) -> Result<Self, StoreFailure> {
        let read = || {
            Ok(StoredEvent {
                id: row.try_get(0)?,
                event_id: row.try_get(1)?,
                event_type: row.try_get(2)?,
                routing_key: row.try_get(3)?,
                bom_id: row.try_get(4)?,
                tenant_id: row.try_get(5)?,
                organization_id: row.try_get(6)?,
                project_id: row.try_get(7)?,
                user_id: row.try_get(8)?,
                source: row.try_get(9)?,
                workflow_id: row.try_get(10)?,
                state: row.try_get::<_, Document>(11)?.0,
                payload: row.try_get::<_, Document>(12)?.0,
                created_at: row.try_get::<_, Moment>(13)?.0,
            })
        };
        read().map_err(|error: tokio_postgres::Error| {
            // A null where an old table allows one, say.
            let id = row.try_get::<_, Uuid>(0).unwrap_or_default();
            StoreFailure::unreadable(&format!("the row with id {id} cannot be read: {}", describe(&error)))
        })
    }
}

/// A jsonb as the text it is.
struct Document(Box<RawValue>);

impl<'a> FromSql<'a> for Document {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        // Version 1 of the binary format is that byte and the text.
        let text = raw.strip_prefix(&[1]).ok_or("an unknown version of jsonb")?;
        Ok(Document(RawValue::from_string(std::str::from_utf8(text)?.to_owned())?))
    }

    accepts!(JSONB);
}

/// A time within the years 0 to 9999 (RFC 3339 has no others): SQL by hand may have put in others, `infinity` among them.
struct Moment(DateTime<Utc>);

/// `PostgreSQL` counts microseconds from 2000 on.
const EPOCH_2000: i64 = 946_684_800_000_000;

impl<'a> FromSql<'a> for Moment {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        let micros = i64::from_be_bytes(raw.try_into()?).saturating_add(EPOCH_2000);
        let micros = micros.clamp(*YEARS.start(), *YEARS.end());
        Ok(Moment(DateTime::from_timestamp_micros(micros).ok_or("no such time")?))
    }

    accepts!(TIMESTAMPTZ);
}
