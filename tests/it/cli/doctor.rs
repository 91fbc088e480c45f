//! `cns-events doctor`: it finds what is wrong, says what mends it, and what it says mends it.

use std::process::{Command, Output};

use serde_json::Value;

use crate::env::{TestEnv, event, eventually};

fn doctor(env: &TestEnv, change: impl FnOnce(&mut Command)) -> (Option<i32>, Vec<Value>) {
    let mut command = env.command();
    command.args(["doctor", "--json"]);
    change(&mut command);
    let Output { status, stdout, stderr } = command.output().unwrap();
    let checks =
        serde_json::from_slice(&stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&stderr)));
    (status.code(), checks)
}

/// The checks with a status, as `check: found → fix`.
fn with(checks: &[Value], status: &str) -> Vec<String> {
    checks
        .iter()
        .filter(|check| check["status"] == status)
        .map(|check| format!("{}: {} → {}", check["check"], check["found"], check["fix"]))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_finds_nothing_wrong_with_a_sound_pool() {
    let env = TestEnv::new("sound").await;
    let (login, url) = env.login("in role service_role").await;
    let as_worker = |command: &mut Command| {
        command.env("CNS_EVENTS__DATABASE__URL", &url);
    };
    let worker = env.start(as_worker);
    worker.ready().await;
    let (code, checks) = doctor(&env, as_worker);
    assert_eq!((code, with(&checks, "wrong")), (Some(0), vec![]));
    let warnings = with(&checks, "warning");
    assert!(warnings.len() == 1 && warnings[0].contains("set_policy"), "{warnings:?}");
    assert!(checks.len() > 12, "{checks:?}");

    // Nothing of the looking is left, and it stored nothing.
    assert_eq!(env.rows().await, 0);
    eventually("the probes are taken back", async || env.depth(&env.dead_letter_queue()).await.0 == 0).await;
    eventually("the probe is dropped", async || worker.metric_value("cns_events_in_flight") == 0.0).await;
    assert_eq!(worker.metric_value(r#"cns_events_dead_lettered_total{reason="malformed_json"}"#), 0.0);
    let table = env.command().arg("doctor").output().unwrap();
    assert!(String::from_utf8_lossy(&table.stdout).contains("0 wrong"), "{table:?}");
    drop(worker);
    env.drop_login(&login).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_finds_each_fault_and_its_fix_works() {
    let env = TestEnv::empty("sick").await;
    let (code, checks) = doctor(&env, |_| {});
    let wrong = with(&checks, "wrong").join("\n");
    assert_eq!(code, Some(1), "{wrong}");
    for found in
        ["exchange", "queue", "NOT_FOUND", "start a worker", "pending: ", "cns-events migrate", "42P01"]
    {
        assert!(wrong.contains(found), "{found} in {wrong}");
    }
    assert!(env.command().arg("migrate").output().unwrap().status.success());
    env.declare().await;
    let (code, checks) = doctor(&env, |_| {});
    assert_eq!((code, with(&checks, "wrong")), (Some(0), vec![]));
    assert!(with(&checks, "warning").join("\n").contains("start a worker"));

    // A binding that is gone, of either queue.
    for (queue, exchange, key) in
        [(env.queue(), env.exchange(), "cns.#"), (env.dead_letter_queue(), format!("{}.dlx", env.name), "#")]
    {
        let (of, from) = (queue.as_str().into(), exchange.as_str().into());
        env.channel.queue_unbind(of, from, key.into(), Default::default()).await.unwrap();
        let (code, checks) = doctor(&env, |_| {});
        let wrong = with(&checks, "wrong").join("\n");
        assert!(code == Some(1) && wrong.contains(&format!("the binding of {queue} is missing")), "{wrong}");
        env.declare().await;
        assert_eq!(doctor(&env, |_| {}).0, Some(0));
    }

    // Other arguments than the queue has.
    let (code, checks) = doctor(&env, |command| {
        command.env("CNS_EVENTS__AMQP__QUEUE_TYPE", "classic");
    });
    let wrong = with(&checks, "wrong").join("\n");
    assert!(code == Some(1) && wrong.contains("x-queue-type") && wrong.contains("quorum"), "{wrong}");

    // A dead letter, and row-level security switched off.
    let mut worker = env.worker().await;
    env.publish(b"not json").await;
    eventually("it is a letter", async || env.depth(&env.dead_letter_queue()).await.0 == 1).await;
    assert!(worker.terminate().await.success());
    env.sql.batch_execute("alter table enrichment_events disable row level security").await.unwrap();
    let (code, checks) = doctor(&env, |_| {});
    assert!(with(&checks, "warning").join("\n").contains("cns-events dlq list"));
    let wrong = with(&checks, "wrong").join("\n");
    assert!(code == Some(1) && wrong.contains("row-level security"), "{wrong}");
    eventually("letters stay", async || env.depth(&env.dead_letter_queue()).await.0 == 1).await;
}

/// `doctor serve` checks what the read API needs: keys, login, both roles, and that a login without claims sees nothing.
#[tokio::test(flavor = "multi_thread")]
async fn doctor_finds_the_read_apis_faults() {
    let env = TestEnv::new("sickapi").await;
    let (login, url) = env.login("in role authenticated").await;
    let look = |secret: &str| {
        let output = env
            .command()
            .args(["doctor", "serve", "--json"])
            .env("CNS_EVENTS__DATABASE__URL", &url)
            .env("CNS_EVENTS__API__JWT_SECRET", secret)
            .env("CNS_EVENTS__AMQP__URI", "amqp://nobody@127.0.0.1:1") // it needs no broker
            .output()
            .unwrap();
        let checks: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code(), with(&checks, "wrong").join("\n"), with(&checks, "warning").join("\n"), checks)
    };
    let long = "x".repeat(32);
    assert!(env.command().args(["aggregate", "--once"]).output().unwrap().status.success());
    let (code, wrong, warnings, checks) = look(&long);
    assert_eq!((code, wrong.as_str(), warnings.as_str()), (Some(0), "", ""));
    let ok = with(&checks, "ok").join("\n");
    for said in
        ["is a member of authenticated", "may insert and not read", "may read and not write", "sees no event"]
    {
        assert!(ok.contains(said), "{said}: {ok}");
    }
    assert!(look("").1.contains("neither is set"));
    assert!(look("short").1.contains("use at least 32"));

    let sick = "grant insert, truncate on enrichment_events to authenticated; grant select on enrichment_events to service_role; \
                create policy open on enrichment_events for select using (true); \
                insert into enrichment_events (event_id, event_type, bom_id, tenant_id, source) \
                values ('x', 'x', gen_random_uuid(), gen_random_uuid(), 'customer')";
    env.sql.batch_execute(sick).await.unwrap();
    let (code, wrong, warnings, _) = look(&long);
    assert!(code == Some(1) && wrong.contains("a tenant that does not exist sees events"), "{wrong}");
    assert!(warnings.contains("authenticated may also insert, truncate"), "{warnings}");
    assert!(warnings.contains("service_role may also select"), "{warnings}");

    env.sql.batch_execute(&format!("revoke authenticated from {login}")).await.unwrap();
    let (code, wrong, ..) = look(&long);
    assert!(code == Some(1) && wrong.contains(&format!("grant authenticated to {login}")), "{wrong}");
    env.drop_login(&login).await;
}

/// A login without privileges, servers that are away, and a configuration that cannot work.
#[tokio::test(flavor = "multi_thread")]
async fn doctor_reports_unreachable_servers() {
    let env = TestEnv::new("unreached").await;
    env.declare().await;
    let (login, url) = env.login("").await;
    let (code, checks) = doctor(&env, |command| {
        command.env("CNS_EVENTS__DATABASE__URL", &url);
    });
    let wrong = with(&checks, "wrong").join("\n");
    assert_eq!(code, Some(1));
    for found in ["is not a member of service_role", "grant service_role to", "may not insert", "42501"] {
        assert!(wrong.contains(found), "{found} in {wrong}");
    }
    let (code, checks) = doctor(&env, |command| {
        command.env("CNS_EVENTS__DATABASE__URL", "postgres://u:hunter2@127.0.0.1:1/d");
        command.env("CNS_EVENTS__AMQP__URI", "amqp://u:hunter2@127.0.0.1:1/%2f");
    });
    let wrong = with(&checks, "wrong").join("\n");
    assert!(code == Some(1) && wrong.matches("cannot connect").count() == 2, "{wrong}");
    // Something that takes connections and never says a word.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let (code, checks) = doctor(&env, |command| {
        command.env("CNS_EVENTS__DATABASE__URL", format!("postgres://u@{address}/d"));
        command.env("CNS_EVENTS__AMQP__URI", format!("amqp://u@{address}/%2f"));
    });
    let wrong = with(&checks, "wrong").join("\n");
    assert!(code == Some(1) && wrong.matches("no answer within 10 s").count() == 2, "{wrong}");
    let (code, checks) = doctor(&env, |command| {
        command.env("CNS_EVENTS__WORKER__PREFETCH", "10").env("CNS_EVENTS__WORKER__LINGER_MS", "hunter2");
    });
    let wrong = with(&checks, "wrong").join("\n");
    assert!(code == Some(1) && wrong.contains("LINGER_MS"), "{wrong}");
    let (_, checks) = doctor(&env, |command| {
        command.env("CNS_EVENTS__WORKER__PREFETCH", "1000");
    });
    assert!(with(&checks, "warning").join("\n").contains("worker.prefetch = 2000"));
    // It takes nothing out of the pool's queue, and a worker drops what it put there.
    env.publish(event("untouched").as_bytes()).await;
    doctor(&env, |_| {});
    assert!(env.depth(&env.queue()).await.0 >= 2);
    let worker = env.worker().await;
    eventually("the event is stored", async || env.rows().await == 1).await;
    eventually("the probes are dropped", async || env.depth(&env.queue()).await.0 == 0).await;
    assert_eq!(worker.metric_value("cns_events_redelivered_total"), 0.0);
    eventually("nothing is in flight", async || worker.metric_value("cns_events_in_flight") == 0.0).await;
    assert_eq!(env.depth(&env.dead_letter_queue()).await.0, 0);
    drop(worker);
    env.drop_login(&login).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn doctor_finds_faults_of_the_journal_and_its_fixes_work() {
    let env = TestEnv::new("sickjournal").await;
    env.declare().await;
    let finds = |service: &[&str], words: &str| {
        let (_, checks) = doctor(&env, |command| {
            command.args(service).env("CNS_EVENTS__API__JWT_SECRET", "0123456789abcdef0123456789abcdef");
        });
        let found = [with(&checks, "wrong"), with(&checks, "warning")].concat().join("\n");
        assert!(found.contains(words), "{words}: {found}");
    };
    let aggregate =
        || assert!(env.command().args(["aggregate", "--once"]).output().unwrap().status.success());
    finds(&["serve"], "nothing keeps them yet");
    aggregate();
    env.sql
        .batch_execute("update enrichment_positions set as_of = now() - interval '5 minutes'")
        .await
        .unwrap();
    finds(&["serve"], "nothing keeps them since");
    aggregate();
    env.sql.batch_execute("update enrichment_journal_state set system_identifier = 1").await.unwrap();
    finds(&["serve"], "another cluster");
    aggregate();
    let (_, checks) = doctor(&env, |command| {
        command.arg("serve").env("CNS_EVENTS__API__JWT_SECRET", "0123456789abcdef0123456789abcdef");
    });
    assert!(with(&checks, "ok").iter().any(|check| check.contains("up to date")), "{checks:?}");
    env.sql
        .batch_execute("alter table enrichment_events disable trigger enrichment_journal_write")
        .await
        .unwrap();
    finds(&[], "its trigger is disabled");
    env.sql.batch_execute("drop trigger enrichment_journal_write on enrichment_events").await.unwrap();
    finds(&[], "its trigger is missing");
}
