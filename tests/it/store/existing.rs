//! `cns-events migrate` on what is there already: it costs no rewrite, or is refused before anything is changed.

use crate::env::services::on_database;
use crate::env::{TestEnv, event, eventually, output_text};

/// Columns of a table that is migrated in place, but for `event_id`.
const COLUMNS: &str = "event_type varchar(100) not null, bom_id uuid not null, tenant_id uuid not null, source varchar(20) not null, \
                       state jsonb not null default '{}', payload jsonb not null default '{}', created_at timestamptz";

/// Runs `migrate` as this login and returns whether it succeeded, with its output.
fn migrate(env: &TestEnv, url: &str) -> (bool, String) {
    let output = env.command().arg("migrate").env("CNS_EVENTS__DATABASE__URL", url).output().unwrap();
    (output.status.success(), output_text(&output))
}

/// Checks that nothing was made beside what was there.
async fn nothing_was_changed(env: &TestEnv) {
    let made = "select count(*) from pg_class where relname = '__diesel_schema_migrations' \
                or relname like 'idx_enrichment_events%' or relname = 'enrichment_events_event_id_key'";
    assert_eq!(env.number(made).await, 0);
}

/// Whatever is not a plain table is refused by name.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_a_plain_table_is_refused_before_anything_is_changed() {
    let env = TestEnv::empty("oddtables").await;
    let table = format!("id uuid not null, event_id varchar(255) not null, {COLUMNS}");
    let cases = [
        (
            format!("create table enrichment_events ({table}) partition by range (created_at)"),
            "partitioned table",
            "table",
        ),
        (
            format!("create table parent ({table}); create table enrichment_events () inherits (parent)"),
            "child of another table",
            "table",
        ),
        (
            format!(
                "create table enrichment_events ({table}); create table child () inherits (enrichment_events)"
            ),
            "parent of other tables",
            "table",
        ),
        (format!("create unlogged table enrichment_events ({table})"), "unlogged", "table"),
        ("create view enrichment_events as select 1 as id".to_owned(), "is a view", "view"),
        (
            "create materialized view enrichment_events as select 1 as id".to_owned(),
            "materialized view",
            "materialized view",
        ),
    ];
    for (sql, words, kind) in cases {
        env.sql.batch_execute(&sql).await.unwrap();
        let (done, text) = migrate(&env, &env.database_url);
        assert!(!done && text.contains(words) && text.contains("hint: rename it"), "{text}");
        nothing_was_changed(&env).await;
        let clean = format!("drop {kind} enrichment_events cascade; drop table if exists parent cascade");
        env.sql.batch_execute(&clean).await.unwrap();
    }
}

/// `event_id` without a length, with a longer one, or as text: the file of the table stays the same, so that nothing was rewritten.
#[tokio::test(flavor = "multi_thread")]
async fn another_type_of_event_id_costs_no_rewrite() {
    for (name, event_id) in [("idplain", "varchar"), ("idlonger", "varchar(300)"), ("idtext", "text")] {
        let env = TestEnv::empty(name).await;
        let table = format!(
            "create table enrichment_events (id uuid primary key default gen_random_uuid(), event_id {event_id} not null unique, {COLUMNS}); \
             insert into enrichment_events (event_id, event_type, bom_id, tenant_id, source, created_at) \
             select 'old-' || n, 'x', gen_random_uuid(), gen_random_uuid(), 'customer', now() from generate_series(1, 1000) n"
        );
        env.sql.batch_execute(&table).await.unwrap();
        let file = "select pg_relation_filenode('enrichment_events')::bigint";
        let before = env.number(file).await;
        let (done, text) = migrate(&env, &env.database_url);
        assert!(done && text.contains("the table is public.enrichment_events"), "{text}");
        assert_eq!(env.number(file).await, before, "{event_id}: the table was rewritten");
        let collation = "select count(*) from pg_attribute where attrelid = 'enrichment_events'::regclass and attname = 'event_id' \
                         and attcollation = 'pg_catalog.\"C\"'::regcollation";
        assert_eq!(env.number(collation).await, 1);
        let worker = env.worker().await;
        env.publish_all(&[event("old-7"), event("fresh")]).await;
        eventually("the duplicate is known", async || {
            worker.metric_value("cns_events_duplicates_total") == 1.0
        })
        .await;
        eventually("the new one is stored", async || env.rows().await == 1001).await;
    }
}

/// A table in a schema that the login does not search: neither `migrate` nor `doctor` leads to a second, empty one.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_in_another_schema_is_found() {
    let env = TestEnv::new("otherschema").await;
    let move_it = "create schema app; alter table enrichment_events set schema app; drop table __diesel_schema_migrations";
    env.sql.batch_execute(move_it).await.unwrap();
    let (done, text) = migrate(&env, &env.database_url);
    assert!(!done && text.contains("in the schema app") && text.contains("set search_path = app"), "{text}");
    nothing_was_changed_in_public(&env).await;
    let doctor = env.command().args(["doctor"]).output().unwrap();
    let text = output_text(&doctor);
    assert!(text.contains("is in the schema app") && !text.contains("cns-events migrate"), "{text}");

    // A path that somebody chose is a second table on purpose.
    let chosen = format!("{}?options=-csearch_path%3Dpublic", env.database_url);
    let (done, text) = migrate(&env, &chosen);
    assert!(done && text.contains("the table is public.enrichment_events"), "{text}");
}

async fn nothing_was_changed_in_public(env: &TestEnv) {
    let made = "select count(*) from pg_class c where relnamespace = 'public'::regnamespace and relkind = 'r' \
         and relname in ('enrichment_events', '__diesel_schema_migrations')";
    assert_eq!(env.number(made).await, 0);
}

/// A login with a schema of its own name makes the table there, and says so.
#[tokio::test(flavor = "multi_thread")]
async fn a_table_in_the_schema_of_the_login_is_said() {
    let env = TestEnv::empty("ownschema").await;
    let (login, url) = env.login("createrole").await;
    env.sql
        .batch_execute(&format!(
            "do $$ begin grant service_role, authenticated, cns_events_retention to {login}; exception when undefined_object then null; end $$; \
             create schema {login} authorization {login}; grant create on database {} to {login}",
            env.name
        ))
        .await
        .unwrap();
    let (done, text) = migrate(&env, &url);
    assert!(done && text.contains(&format!("the table is {login}.enrichment_events")), "{text}");
    env.sql.batch_execute(&format!("drop schema {login} cascade")).await.unwrap();
    env.sql.batch_execute(&format!("drop owned by {login}")).await.unwrap();
    env.drop_login(&login).await;
}

/// A database that is not UTF-8 is refused by the name of its encoding.
#[tokio::test(flavor = "multi_thread")]
async fn another_encoding_is_named() {
    let env = TestEnv::empty("encoding").await;
    let name = format!("{}_latin", env.name);
    let create =
        format!("create database {name} encoding 'LATIN1' lc_collate 'C' lc_ctype 'C' template template0");
    env.sql.batch_execute(&create).await.unwrap();
    let (done, text) = migrate(&env, &on_database(&env.database_url, &name));
    env.sql.batch_execute(&format!("drop database {name} with (force)")).await.unwrap();
    assert!(
        !done && text.contains("LATIN1") && text.contains("encoding 'UTF8' template template0"),
        "{text}"
    );
}

/// A migration that fails says which, how far it came, and what the server says; it goes on there.
#[tokio::test(flavor = "multi_thread")]
async fn a_failed_migration_says_how_far_it_came() {
    let env = TestEnv::empty("migrationfails").await;
    env.sql
        .batch_execute(&format!(
            "create table enrichment_events (id uuid primary key default gen_random_uuid(), event_id varchar(255) not null, {COLUMNS}); \
             insert into enrichment_events (event_id, event_type, bom_id, tenant_id, source) \
             select 'twice', 'x', gen_random_uuid(), gen_random_uuid(), 'customer' from generate_series(1, 2)"
        ))
        .await
        .unwrap();
    let (done, text) = migrate(&env, &env.database_url);
    assert!(!done, "{text}");
    for words in
        ["event_id_unique failed", "having count(*) > 1", "3 of 22 pending migrations are applied", "hint: "]
    {
        assert!(text.contains(words), "{words}: {text}");
    }
    env.sql.batch_execute("delete from enrichment_events").await.unwrap();
    let (done, text) = migrate(&env, &env.database_url);
    assert!(done && !text.contains("000003") && text.contains("000004"), "{text}");
}
