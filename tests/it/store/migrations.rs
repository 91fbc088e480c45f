//! The schema: made, taken back, raced for, and an existing table brought into shape with a writer at work.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio_postgres::error::SqlState;

use crate::env::{TestEnv, connect, event, eventually};

/// The table as the Python services made it on Supabase: rows, indexes, policies, and no organization_id.
const SEED: &str = include_str!("../../env/seed.sql");

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations")
}

/// Ten starting pods migrate one database, and another migrates its own: roles belong to the whole cluster.
#[tokio::test(flavor = "multi_thread")]
async fn concurrent_migrations_do_not_fail() {
    let envs = [TestEnv::empty("race1").await, TestEnv::empty("race2").await];
    let mut children = Vec::new();
    for _ in 0..5 {
        for env in &envs {
            children.push(env.command().arg("migrate").stdout(Stdio::null()).spawn().unwrap());
        }
    }
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    let output = envs[0].command().args(["migrate", "--status"]).output().unwrap();
    let status = String::from_utf8(output.stdout).unwrap();
    assert!(status.contains("applied") && !status.contains("pending"), "{status}");
}

/// Every migration can be taken back, in order, and run again: as the diesel CLI does it.
#[tokio::test(flavor = "multi_thread")]
async fn migrations_can_be_reverted_and_run_again() {
    let env = TestEnv::new("down").await;
    let mut names: Vec<_> = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    for path in names.iter().rev() {
        let down = std::fs::read_to_string(path.join("down.sql")).unwrap();
        env.sql.batch_execute(&down).await.unwrap_or_else(|error| panic!("{}: {error:?}", path.display()));
    }
    let left = env.number("select count(*) from pg_class where relname like '%enrichment_events%'").await;
    assert_eq!(left, 0);
    let functions = env.number("select count(*) from pg_proc where proname like 'enrichment_event%'").await;
    assert_eq!(functions, 0);
    env.sql.batch_execute("delete from __diesel_schema_migrations").await.unwrap();
    assert!(env.command().arg("migrate").output().unwrap().status.success());
}

/// `src/store/schema.rs` says what the database has: names, types, nullability and order of the columns.
#[tokio::test(flavor = "multi_thread")]
async fn the_generated_schema_is_current() {
    let env = TestEnv::new("schema").await;
    let rows = env
        .sql
        .query(
            "select column_name::text, udt_name::text, is_nullable = 'YES', character_maximum_length \
             from information_schema.columns where table_name = 'enrichment_events' order by ordinal_position",
            &[],
        )
        .await
        .unwrap();
    let mut expected = String::from(
        "// @generated automatically by Diesel CLI.\n\ndiesel::table! {\n    enrichment_events (id) {\n",
    );
    for row in rows {
        let (name, of, nullable): (String, String, bool) = (row.get(0), row.get(1), row.get(2));
        let of = of[..1].to_uppercase() + &of[1..];
        if let Some(length) = row.get::<_, Option<i32>>(3) {
            expected += &format!("        #[max_length = {length}]\n");
        }
        let of = if nullable { format!("Nullable<{of}>") } else { of };
        expected += &format!("        {name} -> {of},\n");
    }
    expected += "    }\n}\n";
    let current = std::fs::read_to_string(folder().with_file_name("src/store/schema.rs")).unwrap();
    assert_eq!(current, expected, "run `diesel print-schema`, or write what is expected here");
}

/// The seed's table: rows kept, what is missing added, policies left alone, and its writer never fails.
#[tokio::test(flavor = "multi_thread")]
async fn an_existing_table_is_migrated_in_place_with_a_writer_at_work() {
    let env = TestEnv::empty("seed").await;
    env.sql.batch_execute(SEED).await.unwrap();
    let filler = "insert into enrichment_events (event_id, event_type, bom_id, tenant_id, source, state, payload) \
                  select 'old-' || n, 'enrichment.progress', gen_random_uuid(), gen_random_uuid(), 'staff', '{}', \
                  jsonb_build_object('n', n) from generate_series(1, 20000) n";
    env.sql.batch_execute(filler).await.unwrap();
    env.sql
        .batch_execute("update enrichment_events set created_at = null where event_id = 'old-7'")
        .await
        .unwrap();

    let stop = Arc::new(AtomicBool::new(false));
    let writer = tokio::spawn({
        let (stop, sql) = (stop.clone(), connect(&env.database_url).await);
        async move {
            let mut written = 0_i64;
            while !stop.load(Ordering::Relaxed) {
                let insert = "insert into enrichment_events (event_id, event_type, bom_id, tenant_id, source, state, payload) \
                              values ($1, 'x', gen_random_uuid(), gen_random_uuid(), 'customer', '{}', '{}') returning id";
                sql.query_one(insert, &[&format!("new-{written}")]).await.expect("the writer never fails");
                written += 1;
            }
            written
        }
    });
    let output = env.command().arg("migrate").output().unwrap();
    stop.store(true, Ordering::Relaxed);
    let written = writer.await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(written > 0);
    assert_eq!(env.rows().await, 20_000 + written);

    let one = async |sql: &str| env.sql.query_one(sql, &[]).await.unwrap().get::<_, String>(0);
    assert_eq!(one("select collation_name::text from information_schema.columns where table_name = 'enrichment_events' and column_name = 'event_id'").await, "C");
    assert_eq!(one("select is_nullable::text from information_schema.columns where table_name = 'enrichment_events' and column_name = 'created_at'").await, "NO");
    let uniques = "select string_agg(indexdef, ';') from pg_indexes where tablename = 'enrichment_events' and indexdef like '%UNIQUE%(event_id)'";
    assert_eq!(one(uniques).await.matches("UNIQUE").count(), 1, "{}", one(uniques).await);
    let indexes = one("select string_agg(indexname || ' ' || substring(indexdef from 'USING.*'), ';') from pg_indexes where tablename = 'enrichment_events'").await;
    for kept in
        ["idx_enrichment_events_type_created", "idx_enrichment_events_workflow USING btree (workflow_id)"]
    {
        assert!(indexes.contains(kept), "{kept}: {indexes}");
    }
    for wanted in ["(workflow_id, created_at DESC)", "(payload jsonb_path_ops)"] {
        assert!(indexes.contains(wanted), "{wanted}: {indexes}");
    }
    assert_eq!(indexes.matches("(bom_id, created_at DESC)").count(), 1, "no index twice: {indexes}");
    let policies = one("select string_agg(policyname || ':' || coalesce(qual, ''), ';') from pg_policies where tablename = 'enrichment_events'").await;
    assert!(policies.contains("Staff can view all enrichment events"), "{policies}");
    assert!(policies.contains("user_metadata"), "the seed's own policy stays: {policies}");
    let duplicate = env.sql.batch_execute("insert into enrichment_events (event_id, event_type, bom_id, tenant_id, source) values ('old-1', 'x', gen_random_uuid(), gen_random_uuid(), 'customer')").await;
    assert_eq!(duplicate.unwrap_err().code(), Some(&SqlState::UNIQUE_VIOLATION));

    let asks = "select has_function_privilege($1, 'enrichment_events_lookup(text[], uuid[])', 'execute')";
    for (role, may) in [("anon", false), ("authenticated", false), ("service_role", true)] {
        assert_eq!(env.sql.query_one(asks, &[&role]).await.unwrap().get::<_, bool>(0), may, "{role}");
    }
    env.sql.batch_execute("begin; set local role anon").await.unwrap();
    assert_eq!(env.number("select count(*) from __diesel_schema_migrations").await, 0);
    env.sql.batch_execute("rollback").await.unwrap();

    // Both write side by side: what the old writer stored is a duplicate for the worker.
    let worker = env.worker().await;
    env.publish_all(&[event("old-1"), event("fresh")]).await;
    eventually("both are counted", async || worker.metric_value("cns_events_duplicates_total") == 1.0).await;
    eventually("the new one is stored", async || env.rows().await == 20_001 + written).await;

    // Taking it back leaves the rows.
    drop(worker);
    let mut names: Vec<_> = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.sort();
    for path in names.iter().rev() {
        env.sql.batch_execute(&std::fs::read_to_string(path.join("down.sql")).unwrap()).await.unwrap();
    }
    assert_eq!(env.rows().await, 20_001 + written);
}

/// A login that owns its table but is no superuser migrates, works and reads, all in one.
#[tokio::test(flavor = "multi_thread")]
async fn a_login_without_superuser_can_migrate() {
    let env = TestEnv::empty("owner").await;
    let login = format!("{}_login", env.name);
    env.sql.batch_execute(&format!("create role {login} login password 'p' createrole; alter database {} owner to {login}; grant all on schema public to {login}", env.name)).await.unwrap();
    // Roles of the cluster may exist already: then an administrator grants them.
    env.sql.batch_execute(&format!("do $$ begin grant service_role, authenticated to {login}; exception when undefined_object then null; end $$")).await.unwrap();
    let mut url = url::Url::parse(&env.database_url).unwrap();
    url.set_username(&login).unwrap();
    url.set_password(Some("p")).unwrap();
    let output =
        env.command().arg("migrate").env("CNS_EVENTS__DATABASE__URL", url.as_str()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let worker = env.start(|command| {
        command.env("CNS_EVENTS__DATABASE__URL", url.as_str());
    });
    worker.ready().await;
    let output = env.command().arg("demo").env("CNS_EVENTS__DATABASE__URL", url.as_str()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let own = connect(url.as_str()).await;
    let seen: i64 = own.query_one("select count(*) from enrichment_events", &[]).await.unwrap().get(0);
    assert_eq!(seen, 0, "row-level security is forced: the owner sees nothing without claims");
    assert!(env.rows().await > 0);
    drop(worker);
    drop(own);
    env.sql.batch_execute(&format!("reassign owned by {login} to current_user")).await.unwrap();
    let drop = format!("drop owned by {login} cascade; drop role {login}");
    eventually("the login is gone", async || env.sql.batch_execute(&drop).await.is_ok()).await;
}

/// A new table where default privileges give away everything, as on Supabase: the roles have what the contract says.
#[tokio::test(flavor = "multi_thread")]
async fn default_privileges_are_revoked() {
    let env = TestEnv::empty("defaults").await;
    let generous = "do $$ begin create role anon nologin; exception when duplicate_object or unique_violation then null; end $$; \
                    do $$ begin create role service_role nologin; exception when duplicate_object or unique_violation then null; end $$; \
                    do $$ begin create role authenticated nologin; exception when duplicate_object or unique_violation then null; end $$; \
                    alter default privileges in schema public grant all on tables to anon, authenticated, service_role";
    env.sql.batch_execute(generous).await.unwrap();
    assert!(env.command().arg("migrate").output().unwrap().status.success());
    let granted = "select coalesce(string_agg(grantee || ' ' || privilege_type, ', ' order by grantee, privilege_type), '') from \
                   information_schema.role_table_grants where table_name = 'enrichment_events' and grantee in ('anon', 'authenticated', 'service_role', 'PUBLIC')";
    let granted: String = env.sql.query_one(granted, &[]).await.unwrap().get(0);
    assert_eq!(granted, "authenticated SELECT, service_role INSERT");
}

/// An index whose building was cut short is built again, whichever it is.
#[tokio::test(flavor = "multi_thread")]
async fn invalid_indexes_are_built_again() {
    let env = TestEnv::new("halfbuilt").await;
    let indexes = std::fs::read_dir(folder()).unwrap().filter_map(|entry| {
        let up = std::fs::read_to_string(entry.unwrap().path().join("up.sql")).unwrap();
        let (_, rest) = up.split_once("index concurrently if not exists ")?;
        Some(rest.split(' ').next().unwrap().to_owned())
    });
    let indexes: Vec<String> = indexes.collect();
    assert!(indexes.len() >= 7, "{indexes:?}");
    for index in &indexes {
        let cut = format!("update pg_index set indisvalid = false where indexrelid = '{index}'::regclass");
        env.sql.batch_execute(&cut).await.unwrap();
    }
    // The constraint has its index; the others are made again.
    let again = "delete from __diesel_schema_migrations where version > '20260101000005'; \
                 update pg_index set indisvalid = true where indexrelid = 'enrichment_events_event_id_key'::regclass";
    env.sql.batch_execute(again).await.unwrap();
    assert!(env.command().arg("migrate").output().unwrap().status.success());
    let invalid =
        "select count(*) from pg_index where indrelid = 'enrichment_events'::regclass and not indisvalid";
    assert_eq!(env.number(invalid).await, 0);
    assert_eq!(
        env.number("select count(*) from pg_indexes where tablename = 'enrichment_events'").await,
        indexes.len() as i64 + 1
    );
}
