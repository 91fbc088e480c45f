//! Migrations: embedded in the binary, run under a lock.

use std::time::Duration;

use anyhow::Context as _;
use diesel::migration::Migration as _;
use diesel::sql_types::{BigInt, Bool, Text};
use diesel_async::{AsyncMigrationHarness, RunQueryDsl};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};

use super::endpoint::DatabaseEndpoint;
use super::preflight;

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("migrations");

/// Advisory lock of the migrations, which keeps pods that start together from racing: "cns-evts" in ASCII.
const LOCK: i64 = 0x636e_732d_6576_7473;

/// Pause between two attempts to take the lock.
const LOCK_PAUSE: Duration = Duration::from_millis(100);

/// A migration and its state in the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Migration {
    /// Name of its folder under `migrations/`.
    pub name: String,
    /// Set where the database has it.
    pub applied: bool,
}

/// Migrations that were run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// Their names.
    pub names: Vec<String>,
    /// Schema of the table.
    pub schema: String,
}

/// Runs the pending migrations, and reports each that is done to `on_applied`. A database that cannot be migrated is refused before
/// anything is changed.
///
/// # Errors
/// The failure of the database, with the migration that failed and the number of those that are applied. It can be run again.
pub async fn run(database: &DatabaseEndpoint, mut on_applied: impl FnMut(&str)) -> anyhow::Result<Applied> {
    let mut connection = database.connect_diesel().await.context("cannot reach the database")?;
    lock(&mut connection).await?;
    let schema = preflight::check(&mut connection).await?;
    drop_half_built_indexes(&mut connection).await?;
    // The lock ends with the connection.
    let mut harness = AsyncMigrationHarness::new(connection);
    let pending = harness
        .pending_migrations(MIGRATIONS)
        .map_err(|error| anyhow::anyhow!("cannot read which migrations are pending: {error}"))?;
    let mut names = Vec::new();
    for migration in &pending {
        let name = migration.name().to_string();
        harness.run_migration(migration).map_err(|error| {
            let left = pending.len() - names.len();
            let text = error.to_string();
            // The name is in the text once more.
            let text = text.split_once(" with: ").map_or(text.as_str(), |(_, text)| text);
            anyhow::anyhow!(
                "the migration {name} failed: {text}\n{} of {} pending migrations are applied, {left} are not\nhint: {}",
                names.len(),
                pending.len(),
                hint(text)
            )
        })?;
        on_applied(&name);
        names.push(name);
    }
    Ok(Applied { names, schema })
}

/// Returns the fix for the error of a migration.
fn hint(error: &str) -> &'static str {
    if error.contains("could not create unique index") {
        "keep one row of each event_id, and run `cns-events migrate` again: select event_id, count(*) from enrichment_events group by \
         event_id having count(*) > 1"
    } else {
        "fix the cause, and run `cns-events migrate` again: it goes on there"
    }
}

/// Takes the lock by polling. A session that waits in `pg_advisory_lock` holds a snapshot, and the holder of the lock waits for the
/// end of that snapshot in `create index concurrently`.
async fn lock(connection: &mut diesel_async::AsyncPgConnection) -> anyhow::Result<()> {
    loop {
        let taken: Taken = diesel::sql_query("select pg_try_advisory_lock($1) as taken")
            .bind::<BigInt, _>(LOCK)
            .get_result(connection)
            .await?;
        if taken.taken {
            return Ok(());
        }
        tokio::time::sleep(LOCK_PAUSE).await;
    }
}

#[derive(diesel::QueryableByName)]
struct Taken {
    #[diesel(sql_type = Bool)]
    taken: bool,
}

/// Returns every migration of this binary, in order.
///
/// # Errors
/// The failure of the database.
pub async fn status(database: &DatabaseEndpoint) -> anyhow::Result<Vec<Migration>> {
    use diesel::migration::MigrationSource;

    let mut connection = database.connect_diesel().await.context("cannot reach the database")?;
    let table =
        diesel::sql_query("select coalesce(to_regclass('__diesel_schema_migrations')::text, '') as name")
            .get_result::<Name>(&mut connection)
            .await?;
    let applied: Vec<Name> = if table.name.is_empty() {
        Vec::new()
    } else {
        diesel::sql_query("select version::text as name from __diesel_schema_migrations")
            .load(&mut connection)
            .await?
    };
    let known = MigrationSource::<diesel::pg::Pg>::migrations(&MIGRATIONS)
        .map_err(|error| anyhow::anyhow!("the embedded migrations cannot be read: {error}"))?;
    let mut known: Vec<Migration> = known
        .iter()
        .map(|migration| Migration {
            name: migration.name().to_string(),
            applied: applied.iter().any(|row| row.name == migration.name().version().to_string()),
        })
        .collect();
    known.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(known)
}

#[derive(diesel::QueryableByName)]
struct Name {
    #[diesel(sql_type = Text)]
    name: String,
}

/// Drops invalid indexes. `create index concurrently` leaves one behind when it fails, and `if not exists` would then skip it.
async fn drop_half_built_indexes(connection: &mut diesel_async::AsyncPgConnection) -> anyhow::Result<()> {
    let invalid: Vec<Name> = diesel::sql_query(
        "select format('%I.%I', n.nspname, c.relname) as name \
         from pg_index i join pg_class c on c.oid = i.indexrelid join pg_namespace n on n.oid = c.relnamespace \
         where i.indrelid = to_regclass('enrichment_events') and not i.indisvalid \
         and c.relname in ('enrichment_events_event_id_key', 'idx_enrichment_events_bom_created', \
         'idx_enrichment_events_tenant_created', 'idx_enrichment_events_workflow_created', \
         'idx_enrichment_events_payload_path', 'idx_enrichment_events_errors', 'idx_enrichment_events_errors_time', \
         'idx_enrichment_events_created', 'idx_enrichment_events_risks') \
         and not exists (select from pg_stat_progress_create_index p where p.index_relid = c.oid)",
    )
    .load(connection)
    .await?;
    for index in invalid {
        diesel::sql_query(format!("drop index concurrently if exists {}", index.name))
            .execute(connection)
            .await?;
    }
    Ok(())
}
