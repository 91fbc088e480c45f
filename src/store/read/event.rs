//! A stored event: the columns of the table.

use chrono::{DateTime, Utc};
use postgres_types::{FromSql, Type, accepts};
use serde::Serialize;
use serde_json::value::RawValue;
use tokio_postgres::Row;
use uuid::Uuid;

use super::cursor::Cursor;
use super::moment;
use crate::store::failure::StoreFailure;
use crate::store::unreached::describe;

/// One stored event, by the columns of the table. The two documents stay text, so that their depth does not matter.
#[derive(Clone, Debug, Serialize)]
pub struct StoredEvent {
    /// Id of the row.
    pub id: Uuid,
    /// Deduplication key, chosen by the producer.
    pub event_id: String,
    /// Type of the event.
    pub event_type: String,
    /// Routing key that the message was published under.
    pub routing_key: Option<String>,
    /// BOM that the event is about.
    pub bom_id: Uuid,
    /// Tenant that owns the event.
    pub tenant_id: Uuid,
    /// Organization, as the producer names it.
    pub organization_id: Option<String>,
    /// Project of the BOM.
    pub project_id: Option<Uuid>,
    /// User who acted.
    pub user_id: Option<Uuid>,
    /// Source of the event: `customer` or `staff`.
    pub source: String,
    /// Workflow that the event belongs to.
    pub workflow_id: Option<String>,
    /// State of the workflow, as the producer knew it.
    pub state: Box<RawValue>,
    /// Data of the event.
    pub payload: Box<RawValue>,
    /// Time of the event.
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

    /// Returns the size of its JSON text in bytes, rather a little too much than too little.
    #[must_use]
    pub fn json_bytes(&self) -> usize {
        /// Size of the names, the ids and the times.
        const FIXED_BYTES: usize = 512;
        let texts = [&self.event_id, &self.event_type, &self.source].map(String::len);
        let optional = [&self.routing_key, &self.organization_id, &self.workflow_id];
        let optional = optional.map(|text| text.as_ref().map_or(0, String::len));
        let documents = self.state.get().len() + self.payload.get().len();
        FIXED_BYTES + texts.iter().chain(&optional).sum::<usize>() + documents
    }

    /// Returns the cursor of the events after this one.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        Cursor { created_at: self.created_at, id: self.id }
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
            // For example a null, which an older table may allow.
            let id = row.try_get::<_, Uuid>(0).unwrap_or_default();
            StoreFailure::unreadable(&format!("the row with id {id} cannot be read: {}", describe(&error)))
        })
    }
}

/// A `jsonb` value, as text.
pub(in crate::store) struct Document(pub(in crate::store) Box<RawValue>);

impl<'a> FromSql<'a> for Document {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        // Version 1 of the binary format: the byte 1, then the text.
        let text = raw.strip_prefix(&[1]).ok_or("unknown version of the binary format of jsonb")?;
        Ok(Document(RawValue::from_string(std::str::from_utf8(text)?.to_owned())?))
    }

    accepts!(JSONB);
}

/// A time, moved into the years 0 to 9999: rows that were inserted by hand may have others, among them `infinity`.
pub(in crate::store) struct Moment(pub(in crate::store) DateTime<Utc>);

/// Microseconds from 1970 to 2000, where `PostgreSQL` begins to count.
const EPOCH_2000: i64 = 946_684_800_000_000;

impl<'a> FromSql<'a> for Moment {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        let micros = i64::from_be_bytes(raw.try_into()?).saturating_add(EPOCH_2000);
        Ok(Moment(moment::nearest(micros).ok_or("not a time")?))
    }

    accepts!(TIMESTAMPTZ);
}
