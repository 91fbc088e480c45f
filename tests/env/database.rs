//! The migrated template database, its clones, and the removal of what killed runs left.
//!
//! Migrations run once for each build of the program. The template's name follows from the binary; an advisory lock lets
//! several test programs start at once, and a rename makes a finished template visible.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Duration, SystemTime};

use tokio::sync::OnceCell;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

use super::process::Launcher;
use super::services::{database_url, on_database};

/// Advisory lock of the template's builder: "cns-tmpl" in ASCII.
const LOCK: i64 = 0x636e_732d_746d_706c;

/// Age at which a test's database, left by a killed run, is removed. The longest benchmark takes about an hour.
const STALE_AFTER: Duration = Duration::from_secs(6 * 3600);

/// Time without use after which the template of an older build is removed.
const TEMPLATE_STALE_AFTER: Duration = Duration::from_secs(24 * 3600);

/// Name of this program's template, once it exists.
static TEMPLATE: OnceCell<String> = OnceCell::const_new();

/// Connects to a database.
pub async fn connect(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.expect("the database answers");
    tokio::spawn(connection);
    client
}

/// Creates an empty database.
pub async fn create_empty(name: &str) {
    connect(&database_url()).await.batch_execute(&format!("create database {name}")).await.unwrap();
}

/// Creates a database with the schema of the migrations, as a clone of the template.
pub async fn create_migrated(name: &str) {
    let admin = connect(&database_url()).await;
    let template = TEMPLATE.get_or_init(|| prepare_template(&admin)).await;
    let clone = format!("create database {name} template {template}");
    match admin.batch_execute(&clone).await {
        // Another run may have removed it, where this one has taken longer than a day.
        Err(error) if error.code() == Some(&SqlState::UNDEFINED_DATABASE) => {
            prepare_template(&admin).await;
            admin.batch_execute(&clone).await.unwrap();
        }
        other => other.unwrap(),
    }
}

/// Drops a test's database, also from under its connections.
pub async fn drop_database(name: &str) {
    let drop = format!("drop database if exists {name} with (force)");
    let _ = connect(&database_url()).await.batch_execute(&drop).await;
}

/// Builds the template unless another program has, and returns its name.
async fn prepare_template(admin: &Client) -> String {
    let template = template_name();
    admin.batch_execute(&format!("select pg_advisory_lock({LOCK})")).await.unwrap();
    remove_stale_databases(admin).await;
    let exists = admin.query_opt("select from pg_database where datname = $1", &[&template]).await.unwrap();
    if exists.is_none() {
        let building = format!("{template}_building");
        admin.batch_execute(&format!("create database {building}")).await.unwrap();
        let migrated = Launcher::new(&building, on_database(&database_url(), &building))
            .command()
            .arg("migrate")
            .output()
            .expect("migrate runs");
        assert!(migrated.status.success(), "migrate: {}", String::from_utf8_lossy(&migrated.stderr));
        // A connection, also autovacuum's, would be in the way of a clone.
        for step in ["with allow_connections false", &format!("rename to {template}")] {
            admin.batch_execute(&format!("alter database {building} {step}")).await.unwrap();
        }
    }
    let used = format!("comment on database {template} is '{}'", unix_seconds(SystemTime::now()));
    admin.batch_execute(&used).await.unwrap();
    admin.batch_execute(&format!("select pg_advisory_unlock({LOCK})")).await.unwrap();
    template
}

/// Returns a name that changes with each build of the program: migrations are embedded in it.
fn template_name() -> String {
    let binary = env!("CARGO_BIN_EXE_cns-events");
    let metadata = std::fs::metadata(binary).expect("cargo has built the binary");
    let mut hasher = DefaultHasher::new();
    (binary, metadata.len(), unix_nanos(metadata.modified().unwrap())).hash(&mut hasher);
    format!("cns_template_{:016x}", hasher.finish())
}

/// Removes databases of runs that ended hours ago. The caller holds the lock; a database in use stays.
async fn remove_stale_databases(admin: &Client) {
    let query = "select datname::text, shobj_description(oid, 'pg_database') from pg_database where datname like 'cns\\_%'";
    for row in admin.query(query, &[]).await.unwrap() {
        let (name, comment): (String, Option<String>) = (row.get(0), row.get(1));
        if is_stale(&name, comment.as_deref(), SystemTime::now()) {
            let _ = admin.batch_execute(&format!("drop database if exists {name}")).await;
            let _ = admin.batch_execute(&format!("drop role if exists {name}_login")).await;
            if !name.starts_with("cns_template_") {
                super::broker::delete_topology(&name).await;
            }
        }
    }
}

/// Decides by a database's name and comment. Names that no run gives are never stale.
fn is_stale(name: &str, comment: Option<&str>, now: SystemTime) -> bool {
    if let Some(rest) = name.strip_prefix("cns_template_") {
        let used = comment.and_then(|text| text.parse::<u64>().ok());
        // The lock is held, so that no program builds now: a half-built template has no builder left.
        return rest.ends_with("_building")
            || used.is_some_and(|used| used + TEMPLATE_STALE_AFTER.as_secs() < unix_seconds(now));
    }
    let id = name.rsplit('_').next().and_then(|id| Uuid::try_parse(id).ok());
    let made = id.filter(|id| id.get_version_num() == 7).and_then(|id| id.get_timestamp());
    made.is_some_and(|made| made.to_unix().0 + STALE_AFTER.as_secs() < unix_seconds(now))
}

fn unix_seconds(time: SystemTime) -> u64 {
    unix_nanos(time) as u64 / 1_000_000_000
}

fn unix_nanos(time: SystemTime) -> u128 {
    time.duration_since(SystemTime::UNIX_EPOCH).expect("after 1970").as_nanos()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_databases_of_old_runs_are_stale() {
        let now = SystemTime::now();
        let fresh = format!("cns_once_{}", Uuid::now_v7().simple());
        let later = now + STALE_AFTER + Duration::from_secs(2);
        assert!(!is_stale(&fresh, None, now));
        assert!(is_stale(&fresh, None, later));
        for name in
            ["cns_events", "cns_once_", "cns_bench_123", &format!("cns_x_{}", Uuid::new_v4().simple())]
        {
            assert!(!is_stale(name, None, later), "{name}");
        }
        let used = unix_seconds(now).to_string();
        assert!(!is_stale("cns_template_ab", Some(&used), later));
        assert!(is_stale(
            "cns_template_ab",
            Some(&used),
            now + TEMPLATE_STALE_AFTER + Duration::from_secs(2)
        ));
        assert!(!is_stale("cns_template_ab", None, later));
        assert!(is_stale("cns_template_ab_building", None, now));
    }
}
