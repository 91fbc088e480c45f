//! Facts about a database for operators: server, login, table. One query, not prepared, so that it passes any pooler.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use tokio_postgres::types::Type;

use super::endpoint::DatabaseEndpoint;
use super::failure::StoreFailure;
use super::migrate;

/// Facts about a database.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Version of the server, as it reports it.
    pub version: String,
    /// Set where the connection is encrypted.
    pub encrypted: bool,
    /// Set for a standby, which cannot store events.
    pub standby: bool,
    /// Set where a commit is on disk when it is confirmed (`synchronous_commit` and `fsync`).
    pub durable: bool,
    /// Clock of the server minus clock of this machine.
    pub clock: chrono::Duration,
    /// Login of the connection.
    pub login: String,
    /// Set for a superuser, a login with `bypassrls` or the table's owner: a worker needs less.
    pub powerful: bool,
    /// Set where the login is a member of `service_role`.
    pub service_role: bool,
    /// Set where the login is a member of `authenticated`.
    pub authenticated: bool,
    /// Set where the login is a member of `cns_events_support`.
    pub support: bool,
    /// Facts about the table; `None` where the search path does not find it.
    pub table: Option<Table>,
    /// Schemas with such a table that the search path does not find.
    pub hidden_schemas: Option<String>,
    /// Roles that may create objects in the table's schema, other than its owner and that of the table; `None` for nobody.
    pub schema_creators: Option<String>,
    /// Pending migrations; `None` where the login cannot read them.
    pub pending: Option<Vec<String>>,
}

/// Facts about `enrichment_events`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Set where the login may insert.
    pub insert: bool,
    /// Set where the login may execute the lookup of `event_id`s.
    pub lookup: bool,
    /// Set where the login may read rows.
    pub select: bool,
    /// Set where row-level security is enabled.
    pub row_security: bool,
    /// Set where row-level security applies to the owner too.
    pub forced: bool,
    /// Number of the contract's two policies that exist.
    pub policies: i64,
    /// Privileges of `service_role` other than insert; `None` where it has no other.
    pub worker_role_excess: Option<String>,
    /// Privileges of `authenticated` other than select; `None` where it has no other.
    pub reader_role_excess: Option<String>,
    /// Set where `authenticated` may read.
    pub reader_role_reads: bool,
    /// State of the trigger that writes the journal.
    pub journal_trigger: Trigger,
}

/// State of the trigger that writes the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// It fires.
    Enabled,
    /// It is there and does not fire.
    Disabled,
    /// It is not there.
    Missing,
}

/// Facts about the journal and the summaries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Journal {
    /// Set where the journal is of another cluster: the database was restored, or upgraded.
    pub foreign: bool,
    /// Time up to which the summaries are complete, where there are any.
    pub as_of: Option<DateTime<Utc>>,
    /// Clock of the server.
    pub now: DateTime<Utc>,
}

/// Queries the facts about the journal, as `authenticated`: they are of no tenant.
///
/// # Errors
/// The failure of the server or the network; a login that is no member of that role is refused.
pub async fn journal(database: &DatabaseEndpoint) -> Result<Journal, StoreFailure> {
    const QUERY: &str = "
        select s.system_identifier <> c.system_identifier, (select nullif(as_of, '-infinity') from enrichment_positions where name = 'aggregate'), \
          now() from enrichment_journal_state s, pg_control_system() c where s.singleton";
    let client = database.connect().await?;
    client.batch_execute("begin read only; set local role authenticated").await?;
    let rows = client.query_typed(QUERY, &[]).await?;
    let row = rows.first().ok_or_else(|| StoreFailure::unexpected("the journal has no state"))?;
    Ok(Journal { foreign: row.try_get(0)?, as_of: row.try_get(1)?, now: row.try_get(2)? })
}

const QUERY: &str = "
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
      coalesce((select pg_has_role(current_user, oid, 'member') from pg_roles where rolname = 'cns_events_support'), false) \
        as support, \
      t.oid is not null as there_is_a_table, \
      coalesce(has_table_privilege(t.oid, 'insert'), false) as may_insert, \
      coalesce(has_function_privilege(to_regprocedure('enrichment_events_lookup(text[], uuid[])')::oid, 'execute'), false) as may_lookup, \
      (select string_agg(n.nspname, ', ') from pg_class c join pg_namespace n on n.oid = c.relnamespace \
        where c.relname = 'enrichment_events' and c.relkind in ('r', 'p') and c.oid is distinct from t.oid \
          and n.nspname not like 'pg_temp%') as hidden_schemas, \
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
      (select tgenabled in ('O', 'A') from pg_trigger where tgrelid = t.oid and tgname = 'enrichment_journal_write') as journal_trigger, \
      (select string_agg(distinct case a.grantee when 0 then 'public' else a.grantee::regrole::text end, ', ') \
        from pg_class c join pg_namespace n on n.oid = c.relnamespace cross join lateral aclexplode(n.nspacl) a \
        where c.oid = t.oid and a.privilege_type = 'CREATE' and a.grantee not in (n.nspowner, c.relowner)) as schema_creators, \
      coalesce(has_table_privilege(m.oid, 'select') and not row_security_active(m.oid), true) as may_ask_migrations \
    from (select to_regclass('enrichment_events')::oid as oid) t, \
      (select to_regclass('__diesel_schema_migrations')::oid as oid) m";

/// Queries the facts.
///
/// # Errors
/// The failure of the server or the network.
pub async fn facts(database: &DatabaseEndpoint) -> Result<Facts, StoreFailure> {
    let client = database.connect().await?;
    let (sent_at, sent) = (Utc::now(), Instant::now());
    let none: &[(&(dyn tokio_postgres::types::ToSql + Sync), Type)] = &[];
    let rows = client.query_typed(QUERY, none).await?;
    let took = sent.elapsed();
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
        journal_trigger: match row.get("journal_trigger") {
            Some(true) => Trigger::Enabled,
            Some(false) => Trigger::Disabled,
            None => Trigger::Missing,
        },
    });
    let pending = if row.get("may_ask_migrations") { pending(database).await } else { None };
    Ok(Facts {
        version: row.get("version"),
        encrypted: row.get("encrypted"),
        standby: row.get("standby"),
        durable: row.get("durable"),
        clock: server - (sent_at + half(took)),
        login: row.get("login"),
        powerful: row.get("powerful"),
        service_role: row.get("service_role"),
        authenticated: row.get("authenticated"),
        support: row.get("support"),
        schema_creators: row.get("schema_creators"),
        hidden_schemas: row.get("hidden_schemas"),
        table,
        pending,
    })
}

/// Returns half of the time of a query: the server answered about half-way through it.
fn half(took: Duration) -> chrono::Duration {
    chrono::Duration::from_std(took / 2).unwrap_or_default()
}

async fn pending(database: &DatabaseEndpoint) -> Option<Vec<String>> {
    let all = migrate::status(database).await.ok()?;
    Some(all.into_iter().filter(|migration| !migration.applied).map(|migration| migration.name).collect())
}
