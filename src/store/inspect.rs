//! What an operator has to know about a database: server, login, table. One question, without anything prepared, so that
//! a pooler can be asked too.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use tokio_postgres::types::Type;

use super::endpoint::DatabaseEndpoint;
use super::failure::StoreFailure;
use super::migrate;

/// What the database says.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The server's version, as it calls it.
    pub version: String,
    /// Whether the connection is encrypted.
    pub encrypted: bool,
    /// A standby, which stores nothing.
    pub standby: bool,
    /// `synchronous_commit` and `fsync`: whether a commit is on disk when it is confirmed.
    pub durable: bool,
    /// The server's clock less this machine's.
    pub clock: chrono::Duration,
    /// The login.
    pub login: String,
    /// Superuser, `bypassrls` or the table's owner: more than a worker needs.
    pub powerful: bool,
    /// Whether the login is a member of `service_role`.
    pub service_role: bool,
    /// Whether the login is a member of `authenticated`.
    pub authenticated: bool,
    /// The table's, where there is one.
    pub table: Option<Table>,
    /// Migrations that are pending; `None` where this login may not ask.
    pub pending: Option<Vec<String>>,
}

/// What is known of `enrichment_events`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// The login may insert.
    pub insert: bool,
    /// The login may ask the function about `event_id`s.
    pub lookup: bool,
    /// The login may read rows.
    pub select: bool,
    /// Row-level security is enabled.
    pub row_security: bool,
    /// Also for the owner.
    pub forced: bool,
    /// How many of the two policies there are.
    pub policies: i64,
    /// What `service_role` may do beside inserting, which is all it should; `None` for nothing.
    pub worker_role_excess: Option<String>,
    /// What `authenticated` may do beside reading, which is all it should; `None` for nothing.
    pub reader_role_excess: Option<String>,
    /// `authenticated` may read.
    pub reader_role_reads: bool,
}

const QUESTION: &str = "
    select current_setting('server_version') as version, \
      coalesce((select ssl from pg_stat_ssl where pid = pg_backend_pid()), false) as encrypted, \
      pg_is_in_recovery() as standby, \
      current_setting('synchronous_commit') <> 'off' and current_setting('fsync') = 'on' as durable, \
      clock_timestamp() as clock, \
      current_user::text as login, \
      (select rolsuper or rolbypassrls from pg_roles where rolname = current_user) \
        or coalesce((select pg_has_role(current_user, relowner, 'member') from pg_class where oid = t.oid), false) as powerful, \
      coalesce((select pg_has_role(current_user, oid, 'member') from pg_roles where rolname = 'service_role'), false) \
        as service_role, \
      coalesce((select pg_has_role(current_user, oid, 'member') from pg_roles where rolname = 'authenticated'), false) \
        as authenticated, \
      t.oid is not null as there_is_a_table, \
      coalesce(has_table_privilege(t.oid, 'insert'), false) as may_insert, \
      coalesce(has_function_privilege(to_regprocedure('enrichment_events_lookup(text[])')::oid, 'execute'), false) as may_lookup, \
      coalesce(has_any_column_privilege(t.oid, 'select'), false) as may_select, \
      coalesce((select relrowsecurity from pg_class where oid = t.oid), false) as row_security, \
      coalesce((select relforcerowsecurity from pg_class where oid = t.oid), false) as forced, \
      (select count(*) from pg_policy where polrelid = t.oid and polname in \
        ('Service role can insert enrichment events', 'Users can view own org enrichment events')) as policies, \
      (select string_agg(lower(may), ', ') from pg_roles r, unnest(array['SELECT', 'UPDATE', 'DELETE', 'TRUNCATE']) may \
        where r.rolname = 'service_role' and has_table_privilege(r.oid, t.oid, may)) as worker_role_excess, \
      (select string_agg(lower(may), ', ') from pg_roles r, unnest(array['INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) may \
        where r.rolname = 'authenticated' and has_table_privilege(r.oid, t.oid, may)) as reader_role_excess, \
      coalesce((select has_table_privilege(r.oid, t.oid, 'select') from pg_roles r where r.rolname = 'authenticated'), false) \
        as reader_role_reads, \
      coalesce(has_table_privilege(m.oid, 'select') and not row_security_active(m.oid), true) as may_ask_migrations \
    from (select to_regclass('enrichment_events')::oid as oid) t, \
      (select to_regclass('__diesel_schema_migrations')::oid as oid) m";

/// Asks.
///
/// # Errors
/// As the server or the network gives them.
pub async fn facts(database: &DatabaseEndpoint) -> Result<Facts, StoreFailure> {
    let client = database.connect().await?;
    let (asked_at, asked) = (Utc::now(), Instant::now());
    let none: &[(&(dyn tokio_postgres::types::ToSql + Sync), Type)] = &[];
    let rows = client.query_typed(QUESTION, none).await?;
    let took = asked.elapsed();
    let row = rows.first().ok_or_else(|| StoreFailure::unexpected("no row"))?;
    let server: DateTime<Utc> = row.get("clock");
    let table = row.get::<_, bool>("there_is_a_table").then(|| Table {
        insert: row.get("may_insert"),
        lookup: row.get("may_lookup"),
        select: row.get("may_select"),
        row_security: row.get("row_security"),
        forced: row.get("forced"),
        policies: row.get("policies"),
        worker_role_excess: row.get("worker_role_excess"),
        reader_role_excess: row.get("reader_role_excess"),
        reader_role_reads: row.get("reader_role_reads"),
    });
    let pending = if row.get("may_ask_migrations") { pending(database).await } else { None };
    Ok(Facts {
        version: row.get("version"),
        encrypted: row.get("encrypted"),
        standby: row.get("standby"),
        durable: row.get("durable"),
        clock: server - (asked_at + half(took)),
        login: row.get("login"),
        powerful: row.get("powerful"),
        service_role: row.get("service_role"),
        authenticated: row.get("authenticated"),
        table,
        pending,
    })
}

/// The answer was made half-way through the question.
fn half(took: Duration) -> chrono::Duration {
    chrono::Duration::from_std(took / 2).unwrap_or_default()
}

async fn pending(database: &DatabaseEndpoint) -> Option<Vec<String>> {
    let all = migrate::status(database).await.ok()?;
    Some(all.into_iter().filter(|migration| !migration.applied).map(|migration| migration.name).collect())
}
