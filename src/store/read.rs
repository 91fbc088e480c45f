//! Reads. Each runs in a transaction that first becomes `authenticated` with the tenant's claims, whatever
//! login the connection has, so that row-level security decides what is seen.

use chrono::{DateTime, Utc};
use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::pg::{Pg, PgValue};
use diesel::prelude::*;
use diesel::sql_types::{Double, Jsonb, Nullable, Text};
use diesel_async::{AsyncConnection, AsyncPgConnection, RunQueryDsl};
use uuid::Uuid;

use super::connect::{ConnectError, Database};
use super::schema::enrichment_events as t;

/// A jsonb as the text it is, however deep.
#[derive(Clone, Debug, PartialEq, Eq, FromSqlRow)]
pub struct JsonText(pub String);

impl FromSql<Jsonb, Pg> for JsonText {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        // Version 1 of the binary format is that byte and the text.
        let text = value.as_bytes().strip_prefix(&[1]).ok_or("an unknown version of jsonb")?;
        Ok(JsonText(std::str::from_utf8(text)?.to_owned()))
    }
}

/// One stored event, as much of it as a timeline shows.
#[derive(Clone, Debug, Queryable, Selectable)]
#[diesel(table_name = t, check_for_backend(Pg))]
pub struct StoredEvent {
    /// The deduplication key.
    pub event_id: String,
    /// What kind of event.
    pub event_type: String,
    /// What happened.
    pub payload: JsonText,
    /// The workflow's state as the producer knew it.
    pub state: JsonText,
    /// When it happened.
    pub created_at: DateTime<Utc>,
}

/// From `created_at` to the commit, in seconds.
#[derive(Clone, Copy, Debug, QueryableByName)]
pub struct Latency {
    /// The median.
    #[diesel(sql_type = Nullable<Double>)]
    pub p50: Option<f64>,
    /// The 99th percentile.
    #[diesel(sql_type = Nullable<Double>)]
    pub p99: Option<f64>,
}

/// A connection that reads as one tenant.
pub struct TenantReader {
    connection: AsyncPgConnection,
    tenant: Uuid,
}

impl TenantReader {
    /// Connects.
    ///
    /// # Errors
    /// As the server or the network gives them.
    pub async fn connect(database: &Database, tenant: Uuid) -> Result<Self, ConnectError> {
        Ok(TenantReader { connection: database.connect_diesel().await?, tenant })
    }

    /// Every event of a BOM, oldest first.
    ///
    /// # Errors
    /// As the database gives them.
    pub async fn timeline(&mut self, bom_id: Uuid) -> QueryResult<Vec<StoredEvent>> {
        let tenant = self.tenant;
        self.connection
            .transaction(async |connection| {
                become_tenant(connection, tenant).await?;
                t::table
                    .filter(t::bom_id.eq(bom_id))
                    .order((t::created_at.asc(), t::id.asc()))
                    .select(StoredEvent::as_select())
                    .load(connection)
                    .await
            })
            .await
    }

    /// How many events of a BOM are stored.
    ///
    /// # Errors
    /// As the database gives them.
    pub async fn count(&mut self, bom_id: Uuid) -> QueryResult<i64> {
        let tenant = self.tenant;
        self.connection
            .transaction(async |connection| {
                become_tenant(connection, tenant).await?;
                t::table.filter(t::bom_id.eq(bom_id)).count().get_result(connection).await
            })
            .await
    }

    /// Publish to commit over a BOM's events; needs `track_commit_timestamp = on` in the server.
    ///
    /// # Errors
    /// As the database gives them, also where the server does not keep commit times.
    pub async fn latency(&mut self, bom_id: Uuid) -> QueryResult<Latency> {
        let tenant = self.tenant;
        self.connection
            .transaction(async |connection| {
                become_tenant(connection, tenant).await?;
                diesel::sql_query(
                    "select percentile_cont(0.5) within group (order by seconds) as p50, \
                     percentile_cont(0.99) within group (order by seconds) as p99 \
                     from (select extract(epoch from pg_xact_commit_timestamp(xmin) - created_at)::float8 \
                     as seconds from enrichment_events where bom_id = $1) as latency",
                )
                .bind::<diesel::sql_types::Uuid, _>(bom_id)
                .get_result(connection)
                .await
            })
            .await
    }
}

/// `SET LOCAL` alone: nothing of it outlives the transaction.
async fn become_tenant(connection: &mut AsyncPgConnection, tenant: Uuid) -> QueryResult<()> {
    #[derive(QueryableByName)]
    struct Claims {
        #[allow(dead_code)] // only asked for so that the statement has a result to read
        #[diesel(sql_type = Text)]
        claims: String,
    }
    diesel::sql_query("set local role authenticated").execute(connection).await?;
    let claims = format!(r#"{{"tenant_id":"{tenant}"}}"#);
    diesel::sql_query("select set_config('request.jwt.claims', $1, true) as claims")
        .bind::<Text, _>(claims)
        .get_result::<Claims>(connection)
        .await
        .map(drop)
}
