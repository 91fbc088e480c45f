//! `cns-events prune`: it deletes old events only, and disturbs no worker.

use std::net::TcpListener;
use std::process::{Child, Output, Stdio};

use serde_json::Value;
use tokio_postgres::error::SqlState;

use crate::env::relay::Relay;
use crate::env::{TestEnv, connect, event, eventually, metric_value};

const OLD: &str = "select count(*) from enrichment_events where created_at < now() - interval '90 days'";

/// So many events of each of these ages, of many tenants.
async fn fill(env: &TestEnv, each: u32, days: &[u32]) {
    for days in days {
        let insert = format!(
            "insert into enrichment_events (event_id, event_type, bom_id, tenant_id, source, state, payload, created_at) \
             select 'old-{days}-' || n, 'x', gen_random_uuid(), gen_random_uuid(), 'staff', '{{}}', '{{}}', \
             now() - interval '{days} days' - n * interval '1 second' from generate_series(1, {each}) n"
        );
        env.sql.batch_execute(&insert).await.unwrap();
    }
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// A login with nothing but the role deletes what is older, to the row, and may do nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn prune_deletes_older_events_only() {
    let env = TestEnv::new("prune").await;
    fill(&env, 1500, &[400, 91]).await;
    fill(&env, 700, &[89, 0]).await;
    // More of one moment than a batch holds.
    let same = "update enrichment_events set created_at = now() - interval '200 days' where event_id like 'old-400-%'";
    env.sql.batch_execute(same).await.unwrap();
    let (login, url) = env.login("in role cns_events_retention").await;
    let prune = |arguments: &[&str]| {
        let mut command = env.command();
        command.env("CNS_EVENTS__DATABASE__URL", &url).arg("prune").args(arguments).output().unwrap()
    };

    let dry = prune(&["--older-than", "90d", "--dry-run", "--json"]);
    let told: Value = serde_json::from_slice(&dry.stdout).unwrap();
    assert_eq!(told["would_delete"], 3000, "{}", said(&dry));
    assert_eq!(env.rows().await, 4400);

    let done = prune(&["--older-than", "90d", "--yes", "--json", "--batch-size", "1000", "--rate", "0"]);
    assert!(done.status.success(), "{}", said(&done));
    let told: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!((&told["deleted"], &told["complete"]), (&3000.into(), &true.into()), "{told}");
    assert_eq!((env.rows().await, env.number(OLD).await), (1400, 0));

    let again = prune(&["--older-than", "90d", "--yes"]);
    assert!(again.status.success() && said(&again).contains("deleted 0 events"), "{}", said(&again));

    let client = connect(&url).await;
    for refused in [
        "select payload from enrichment_events",
        "select tenant_id from enrichment_events",
        "update enrichment_events set source = 'staff'",
        "insert into enrichment_events (event_id) values ('x')",
        "truncate enrichment_events",
    ] {
        let refusal = client.batch_execute(refused).await.unwrap_err();
        assert_eq!(refusal.code(), Some(&SqlState::INSUFFICIENT_PRIVILEGE), "{refused}");
    }
    // The role is taken on, not inherited: a login that may read for other reasons sees no more for it.
    assert_eq!(client.execute("delete from enrichment_events", &[]).await.unwrap(), 0);
    drop(client);
    env.drop_login(&login).await;
}

/// A login without privileges is told the fix, and invalid arguments are refused.
#[tokio::test(flavor = "multi_thread")]
async fn prune_names_what_prevents_it() {
    let env = TestEnv::new("pruneno").await;
    let (login, url) = env.login("in role service_role").await;
    let output = env
        .command()
        .env("CNS_EVENTS__DATABASE__URL", &url)
        .args(["prune", "--older-than", "1d", "--yes"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("grant cns_events_retention"), "{}", said(&output));
    env.drop_login(&login).await;

    let empty = TestEnv::empty("pruneempty").await;
    let output = empty.command().args(["prune", "--older-than", "1d", "--yes"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("cns-events migrate"), "{}", said(&output));

    let kept = TestEnv::new("prunekept").await;
    fill(&kept, 10, &[100]).await;
    kept.sql
        .batch_execute(
            "create function keep() returns trigger language plpgsql as 'begin return null; end'; \
             create trigger keep before delete on enrichment_events for each row execute function keep()",
        )
        .await
        .unwrap();
    let output = kept.command().args(["prune", "--older-than", "90d", "--yes"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said(&output).contains("keeps rows that are deleted"), "{}", said(&output));

    // What does not pass by itself is refused at once, and not after a minute of retries.
    let began = std::time::Instant::now();
    let (login, url) = kept.login("in role cns_events_retention").await;
    let alter = format!("alter role {login} set default_transaction_read_only = on");
    kept.sql.batch_execute(&alter).await.unwrap();
    let mut prune = kept.command();
    prune.env("CNS_EVENTS__DATABASE__URL", &url).args(["prune", "--older-than", "90d", "--yes"]);
    let output = prune.output().unwrap();
    assert!(said(&output).contains("25006") && said(&output).contains("at the primary"), "{}", said(&output));
    kept.drop_login(&login).await;
    kept.sql
        .batch_execute(
            "create or replace function keep() returns trigger language plpgsql as \
             $$ begin raise exception 'kept' using hint = 'ask the archive'; end $$",
        )
        .await
        .unwrap();
    let output = kept.command().args(["prune", "--older-than", "90d", "--yes"]).output().unwrap();
    assert!(said(&output).contains("hint: ask the archive"), "{}", said(&output));
    kept.sql
        .batch_execute(
            "drop trigger keep on enrichment_events; \
             create table notes (event uuid references enrichment_events (id)); \
             insert into notes select id from enrichment_events",
        )
        .await
        .unwrap();
    let output = kept.command().args(["prune", "--older-than", "90d", "--yes"]).output().unwrap();
    assert!(said(&output).contains("constraint notes_event_fkey"), "{}", said(&output));
    assert!(began.elapsed() < std::time::Duration::from_secs(50), "{:?}", began.elapsed());

    for age in ["90", "soon", "-1d", "600000y"] {
        let output = env.command().args(["prune", "--older-than", age]).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{age}: {}", said(&output));
    }
    assert_eq!(env.command().arg("prune").output().unwrap().status.code(), Some(2), "no age, no pruning");
}

/// Starts a prune that can be stopped midway; returns the process and its address.
fn slow_prune(env: &TestEnv, url: &str) -> (Child, std::net::SocketAddr) {
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let child = env
        .command()
        .env("CNS_EVENTS__DATABASE__URL", url)
        .env("CNS_EVENTS__HTTP__LISTEN", address.to_string())
        .args(["prune", "--older-than", "90d", "--batch-size", "100", "--rate", "1000", "--yes", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    (child, address)
}

/// Beside a worker that stores: what it stores stays, a lost connection is tried again, and the metrics tell.
#[tokio::test(flavor = "multi_thread")]
async fn prune_runs_beside_a_worker_and_through_an_outage() {
    let env = TestEnv::new("prunebeside").await;
    fill(&env, 4000, &[100]).await;
    let _worker = env.worker().await;
    let relay = Relay::before(&env.database_url).await;
    relay.open().await;
    let (child, address) = slow_prune(&env, &relay.url(&env.database_url));
    let events: Vec<String> = (0..3000)
        .map(|n| event(&format!("new-{n}")).replace(r#","created_at":"2026-01-02T03:04:05Z""#, ""))
        .collect();
    env.publish_all(&events[..1500]).await;
    eventually("some are deleted", async || env.number(OLD).await < 3500).await;
    relay.cut();
    env.publish_all(&events[1500..]).await;
    eventually("the outage is counted", async || {
        metric_value(address, "cns_events_prune_retries_total{reason=\"connection\"}") > 0.0
    })
    .await;
    relay.open().await;
    eventually("it goes on", async || {
        metric_value(address, "cns_events_pruned_total") > 0.0
            && metric_value(address, "cns_events_prune_batch_seconds_count") > 0.0
            && metric_value(address, "cns_events_prune_cutoff_timestamp_seconds")
                > metric_value(address, "cns_events_prune_reached_timestamp_seconds")
    })
    .await;
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(env.number(OLD).await, 0);
    eventually("all are stored", async || env.rows().await == 3000).await;
}

/// A stop ends it after the batch in hand, says so, and the same command goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_prune_continues_later() {
    let env = TestEnv::new("prunestop").await;
    fill(&env, 5000, &[100]).await;
    let (child, _) = slow_prune(&env, &env.database_url);
    eventually("some are deleted", async || env.number(OLD).await < 5000).await;
    std::process::Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(said(&output).contains("stopped before the end"), "{}", said(&output));
    let left = env.number(OLD).await;
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((told["deleted"].as_i64(), &told["complete"]), (Some(5000 - left), &false.into()));
    assert!(left > 0 && left % 100 == 0, "whole batches: {left}");
    assert!(env.command().args(["prune", "--older-than", "90d", "--yes"]).output().unwrap().status.success());
    assert_eq!(env.number(OLD).await, 0);
}

/// Events that are not in the summaries yet are kept, reported where that lasts, and deleted only by `--regardless`; then the summaries are right again.
#[tokio::test(flavor = "multi_thread")]
async fn events_that_are_not_summed_up_are_kept() {
    let env = TestEnv::new("prunesums").await;
    let prune = |arguments: &[&str]| {
        let mut command = env.command();
        command
            .args(["prune", "--older-than", "90d", "--yes", "--rate", "0"])
            .args(arguments)
            .output()
            .unwrap()
    };
    let aggregate = |arguments: &[&str]| {
        let output = env.command().arg("aggregate").args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
    };
    let summed = "select coalesce(sum(events), 0)::bigint from event_counts";
    fill(&env, 100, &[400, 100, 10]).await;
    aggregate(&["--once"]);
    assert!(prune(&[]).status.success());
    assert_eq!((env.rows().await, env.number(summed).await), (100, 300), "summaries outlive the events");
    aggregate(&["verify"]);

    // Dated back, and not in the summaries.
    fill(&env, 50, &[300]).await;
    let passing = prune(&[]);
    assert!(passing.status.success(), "the task may be about to take it in: {}", said(&passing));
    assert_eq!(env.rows().await, 150);
    env.sql
        .batch_execute("update enrichment_positions set as_of = now() - interval '2 hours'")
        .await
        .unwrap();
    let kept = prune(&[]);
    assert_eq!(kept.status.code(), Some(1));
    assert!(
        said(&kept).contains("not in the summaries") && said(&kept).contains("cns-events aggregate"),
        "{}",
        said(&kept)
    );
    assert_eq!(env.rows().await, 150);
    aggregate(&["--once"]);
    assert!(prune(&[]).status.success());
    assert_eq!((env.rows().await, env.number(summed).await), (100, 350));
    aggregate(&["verify"]);

    fill(&env, 40, &[200, 20]).await;
    let done = prune(&["--regardless"]);
    assert!(done.status.success() && said(&done).contains("begin anew"), "{}", said(&done));
    assert_eq!(env.rows().await, 140);
    aggregate(&["--once"]);
    assert_eq!(env.number(summed).await, 390, "the 40 deleted ones were never summed up");
    aggregate(&["verify"]);
}

/// Seven days of the journal are kept, and what a position has not taken in; older positions of clients are refused.
#[tokio::test(flavor = "multi_thread")]
async fn the_journal_is_kept_for_seven_days() {
    let env = TestEnv::new("prunejournal").await;
    fill(&env, 10, &[1]).await;
    let position = cns_events::store::journal::here(&env.sql).await.unwrap();
    fill(&env, 10, &[2]).await;
    assert!(env.command().args(["aggregate", "--once"]).output().unwrap().status.success());
    fill(&env, 10, &[3]).await;
    let rows = env.number("select count(*) from enrichment_journal").await;
    env.sql
        .batch_execute("update enrichment_journal set stored_at = now() - interval '8 days'")
        .await
        .unwrap();
    let prune = || {
        let output =
            env.command().args(["prune", "--older-than", "90d", "--yes", "--json"]).output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()["journal_rows"].as_i64().unwrap()
    };
    assert_eq!((prune(), prune()), (20, 0));
    assert_eq!(
        env.number("select count(*) from enrichment_journal").await,
        rows - 20,
        "10 events are not summed up"
    );
    let looked = cns_events::store::journal::look(&env.sql, &position, 10).await.unwrap();
    assert!(matches!(looked, cns_events::store::journal::Looked::Reset(_)), "{looked:?}");
    let here = cns_events::store::journal::here(&env.sql).await.unwrap();
    let looked = cns_events::store::journal::look(&env.sql, &here, 10).await.unwrap();
    assert!(matches!(looked, cns_events::store::journal::Looked::Rows(_)), "{looked:?}");
    assert!(env.command().args(["aggregate", "--once"]).output().unwrap().status.success());
    assert_eq!(prune(), 10);
    fill(&env, 10, &[4]).await;
    assert_eq!(prune(), 0, "young rows stay");
}

/// Old summaries are deleted only where that is asked for, and never before their events.
#[tokio::test(flavor = "multi_thread")]
async fn old_summaries_are_deleted_on_demand() {
    let env = TestEnv::new("prunesummaries").await;
    fill(&env, 10, &[700, 100]).await;
    env.sql.batch_execute("update enrichment_events set workflow_id = event_id").await.unwrap();
    assert!(env.command().args(["aggregate", "--once"]).output().unwrap().status.success());
    let (login, url) = env.login("in role cns_events_retention").await;
    let prune = |arguments: &[&str]| {
        let mut command = env.command();
        command.env("CNS_EVENTS__DATABASE__URL", &url).args([
            "prune",
            "--older-than",
            "90d",
            "--yes",
            "--json",
        ]);
        command.args(arguments).output().unwrap()
    };
    assert_eq!(prune(&["--summaries-older-than", "30d"]).status.code(), Some(2));
    let runs = "select count(*) from workflow_runs";
    assert!(prune(&[]).status.success());
    assert_eq!((env.rows().await, env.number(runs).await), (0, 20));
    let output = prune(&["--summaries-older-than", "1y"]);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(env.number(runs).await, 10);
    assert_eq!(env.number("select sum(events)::bigint from event_counts").await, 10);
    env.drop_login(&login).await;
}
