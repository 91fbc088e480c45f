//! One row that cannot be stored takes no other along, whatever the operator has added to the table.

use crate::env::{TestEnv, event, eventually, header};

/// BOM of [`event`].
const BOM: &str = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff";

/// A BOM that the constraint does not know.
const OTHER_BOM: &str = "7f9619ff-8b86-4d01-b42d-00cf4fc964ff";

/// Publishes 50 events, one of which is `bad`, and checks that 49 are stored while the bad one becomes a dead letter with this
/// SQLSTATE, and that no lane stopped.
async fn one_of_fifty(name: &str, sql: &str, bad: &str, sqlstate: &str) {
    let env = TestEnv::new(name).await;
    env.sql.batch_execute(sql).await.unwrap();
    env.declare().await;
    let mut bodies: Vec<String> = (0..49).map(|number| event(&format!("good{number}"))).collect();
    bodies.insert(20, bad.to_owned());
    env.publish_all(&bodies).await;
    let worker = env.start(|command| {
        command
            .env("CNS_EVENTS__WORKER__HOLD_SECONDS", "3")
            .env("CNS_EVENTS__DATABASE__STATEMENT_TIMEOUT_MS", "3000");
    });
    eventually("the neighbours are stored", async || env.rows().await == 49).await;
    let letter = env.dead_letter().await;
    assert_eq!(header(&letter, "x-cns-reason").as_deref(), Some("database_rejected"), "{name}");
    assert_eq!(header(&letter, "x-cns-sqlstate").as_deref(), Some(sqlstate), "{name}");
    eventually("all is settled", async || worker.metric_value("cns_events_in_flight") == 0.0).await;
    // A lane that changes its prefetch does not consume for a moment.
    eventually("both lanes consume", async || env.depth(&env.queue()).await == (0, 2)).await;
    assert_eq!(env.depth(&env.dead_letter_queue()).await.0, 0, "{name}");
    assert_eq!(worker.metric_value("cns_events_redelivered_total"), 0.0, "{name}");
    env.publish(event("after").as_bytes()).await;
    eventually("a later event is stored", async || env.rows().await == 50).await;
}

fn bad_type() -> String {
    event("bad").replace("cache_hit", "refused_type")
}

/// A trigger that fails with this SQLSTATE for the type of [`bad_type`].
fn trigger(sqlstate: &str) -> String {
    format!(
        "create function refuse() returns trigger language plpgsql as $$ begin
           if new.event_type = 'refused_type' then raise exception 'refused' using errcode = '{sqlstate}'; end if;
           return new;
         end $$;
         create trigger refuse before insert on enrichment_events for each row execute function refuse()"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_key_that_one_event_breaks_stops_no_other() {
    let sql = format!(
        "create table boms (id uuid primary key); insert into boms values ('{BOM}'); grant select on boms to public; \
         alter table enrichment_events add foreign key (bom_id) references boms (id)"
    );
    one_of_fifty("isolatefk", &sql, &event("bad").replace(BOM, OTHER_BOM), "23503").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_required_column_that_one_event_lacks_stops_no_other() {
    let sql = "alter table enrichment_events alter column project_id set not null";
    let with = |id: &str| {
        event(id)
            .replace(r#""event_type""#, r#""project_id":"6f9619ff-8b86-4d01-b42d-00cf4fc964ff","event_type""#)
    };
    let env = TestEnv::new("isolatenull").await;
    env.sql.batch_execute(sql).await.unwrap();
    env.declare().await;
    let mut bodies: Vec<String> = (0..50).map(|number| with(&format!("good{number}"))).collect();
    bodies.push(event("bad"));
    env.publish_all(&bodies).await;
    let worker = env.worker().await;
    eventually("the neighbours are stored", async || env.rows().await == 50).await;
    assert_eq!(header(&env.dead_letter().await, "x-cns-sqlstate").as_deref(), Some("23502"));
    eventually("all is settled", async || worker.metric_value("cns_events_in_flight") == 0.0).await;
    let doctor = env.command().args(["doctor", "--json"]).output().unwrap();
    let text = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(text.contains("column project_id") && text.contains("23502"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_one_event_breaks_stops_no_other() {
    let sql = "alter table enrichment_events add constraint known_type check (event_type = 'cache_hit')";
    one_of_fifty("isolatecheck", sql, &bad_type(), "23514").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn triggers_that_fail_for_one_event_stop_no_other() {
    for sqlstate in ["3F000", "42883", "XX002", "57P03", "40001", "P0001"] {
        let name = format!("isolate{}", sqlstate.to_lowercase());
        one_of_fifty(&name, &trigger(sqlstate), &bad_type(), sqlstate).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_against_one_tenant_stops_no_other() {
    let env = TestEnv::new("isolatepolicy").await;
    let (login, url) = env.login("in role service_role").await;
    let tenant = "00000000-0000-4000-8000-000000000001";
    let sql = format!(
        "create policy closed on enrichment_events as restrictive for insert with check (tenant_id <> '{tenant}')"
    );
    env.sql.batch_execute(&sql).await.unwrap();
    env.declare().await;
    let mut bodies: Vec<String> = (0..30).map(|number| event(&format!("good{number}"))).collect();
    bodies.insert(
        7,
        event("bad").replace(r#""event_type""#, &format!(r#""tenant_id":"{tenant}","event_type""#)),
    );
    env.publish_all(&bodies).await;
    let worker = env.start(|command| {
        command
            .env("CNS_EVENTS__DATABASE__URL", &url)
            .env("CNS_EVENTS__WORKER__HOLD_SECONDS", "2")
            .env("CNS_EVENTS__DATABASE__STATEMENT_TIMEOUT_MS", "2000");
    });
    eventually("the neighbours are stored", async || env.rows().await == 30).await;
    assert_eq!(header(&env.dead_letter().await, "x-cns-sqlstate").as_deref(), Some("42501"));
    eventually("all is settled", async || worker.metric_value("cns_events_in_flight") == 0.0).await;
    assert_eq!(worker.metric_value("cns_events_redelivered_total"), 0.0);
    drop(worker);
    env.drop_login(&login).await;
}

/// `lock_timeout` with one locked row (55P03): it alone waits, and is stored when the lock is gone.
#[tokio::test(flavor = "multi_thread")]
async fn a_row_behind_a_lock_timeout_waits_alone() {
    let env = TestEnv::new("isolatelock").await;
    let (login, url) = env.login("in role service_role").await;
    env.sql.batch_execute(&format!("alter role {login} set lock_timeout = '200ms'")).await.unwrap();
    env.declare().await;
    env.publish_all(&(0..40).map(|number| event(&format!("e{number}"))).collect::<Vec<_>>()).await;
    let other = crate::env::connect(&env.database_url).await;
    let insert = "insert into enrichment_events (event_id, event_type, bom_id, tenant_id, source) \
                  values ('e7', 'x', gen_random_uuid(), gen_random_uuid(), 'customer')";
    other.batch_execute(&format!("begin; {insert}")).await.unwrap();
    let worker = env.start(|command| {
        command.env("CNS_EVENTS__DATABASE__URL", &url);
    });
    eventually("the neighbours are stored", async || env.rows().await == 39).await;
    assert_eq!(worker.metric_value("cns_events_in_flight"), 1.0);
    other.batch_execute("rollback").await.unwrap();
    eventually("it is stored", async || env.rows().await == 40).await;
    eventually("all is settled", async || worker.metric_value("cns_events_in_flight") == 0.0).await;
    assert_eq!(env.depth(&env.dead_letter_queue()).await.0, 0);
    assert_eq!(worker.metric_value("cns_events_redelivered_total"), 0.0);
    drop(worker);
    env.drop_login(&login).await;
}

/// A constraint that nothing satisfies: held for `worker.hold_seconds`, reported by name, and then dead letters.
#[tokio::test(flavor = "multi_thread")]
async fn a_constraint_that_nothing_satisfies_is_held_and_reported() {
    let env = TestEnv::new("isolatenothing").await;
    env.declare().await;
    let worker = env.start(|command| {
        command
            .env("CNS_EVENTS__WORKER__HOLD_SECONDS", "4")
            .env("CNS_EVENTS__DATABASE__STATEMENT_TIMEOUT_MS", "2000");
    });
    worker.ready().await;
    env.sql
        .batch_execute("alter table enrichment_events add constraint nothing check (false) not valid")
        .await
        .unwrap();
    env.publish_all(&(0..5).map(|number| event(&format!("e{number}"))).collect::<Vec<_>>()).await;
    eventually("it is reported", async || {
        worker.get("/readyz").is_some_and(|(status, text)| status == 503 && text.contains("nothing"))
    })
    .await;
    assert_eq!(env.depth(&env.dead_letter_queue()).await.0, 0, "held first");
    for _ in 0..5 {
        let letter = env.dead_letter().await;
        assert_eq!(header(&letter, "x-cns-sqlstate").as_deref(), Some("23514"));
        assert!(header(&letter, "x-cns-detail").unwrap().contains("constraint nothing"));
    }
    env.sql.batch_execute("alter table enrichment_events drop constraint nothing").await.unwrap();
    env.publish(event("after").as_bytes()).await;
    eventually("a later event is stored", async || env.rows().await == 1).await;
    worker.ready().await;
}

/// One locked row on a quiet queue: nothing else is stored meanwhile, and a probe shows that others could be. The worker stays ready.
#[tokio::test(flavor = "multi_thread")]
async fn a_locked_row_on_a_quiet_queue_does_not_make_the_worker_unready() {
    let env = TestEnv::new("isolatequiet").await;
    env.declare().await;
    let worker = env.start(|command| {
        command
            .env("CNS_EVENTS__WORKER__HOLD_SECONDS", "60")
            .env("CNS_EVENTS__DATABASE__STATEMENT_TIMEOUT_MS", "2000");
    });
    worker.ready().await;
    env.publish(event("before").as_bytes()).await;
    eventually("one is stored", async || env.rows().await == 1).await;
    // An open transaction that has inserted the same event_id: the worker's insert waits for its end.
    let other = crate::env::connect(&env.database_url).await;
    other
        .batch_execute(&format!(
            "begin; insert into enrichment_events (event_id, event_type, bom_id, tenant_id, source, state, payload)
             values ('locked', 'cache_hit', '{BOM}', '{BOM}', 'customer', '{{}}', '{{}}')"
        ))
        .await
        .unwrap();
    env.publish(event("locked").as_bytes()).await;
    let retries = r#"cns_events_store_retries_total{reason="timeout"}"#;
    eventually("it was tried alone again", async || worker.metric_value(retries) >= 3.0).await;
    assert!(!worker.log().contains("no row can be stored"), "{}", worker.log());
    worker.ready().await;
    other.batch_execute("rollback").await.unwrap();
    eventually("it is stored", async || env.rows().await == 2).await;
    assert_eq!(env.depth(&env.dead_letter_queue()).await.0, 0);
}

/// A trigger that writes elsewhere fails for every row because a disk is full: however long that lasts, nothing becomes a dead letter.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_under_a_trigger_dead_letters_nothing() {
    let env = TestEnv::new("isolatedisk").await;
    let full = trigger("53100").replace("if new.event_type = 'refused_type' then", "if true then");
    env.sql.batch_execute(&full).await.unwrap();
    env.declare().await;
    let worker = env.start(|command| {
        command
            .env("CNS_EVENTS__WORKER__HOLD_SECONDS", "2")
            .env("CNS_EVENTS__DATABASE__STATEMENT_TIMEOUT_MS", "2000");
    });
    env.publish_all(&(0..5).map(|number| event(&format!("e{number}"))).collect::<Vec<_>>()).await;
    let retries = r#"cns_events_store_retries_total{reason="resources"}"#;
    eventually("it was tried", async || worker.metric_value(retries) >= 1.0).await;
    // Twice the hold: what is dead-lettered too early would be by now.
    tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    assert_eq!(env.depth(&env.dead_letter_queue()).await.0, 0);
    env.sql.batch_execute("drop trigger refuse on enrichment_events").await.unwrap();
    eventually("all are stored", async || env.rows().await == 5).await;
    assert_eq!(env.depth(&env.dead_letter_queue()).await.0, 0);
}
