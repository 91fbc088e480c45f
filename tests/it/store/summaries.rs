//! The summaries: exact, whatever is stored how and whatever crashes.

use std::process::{Child, Output, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::env::{TestEnv, connect, event, eventually};

fn aggregate(env: &TestEnv, arguments: &[&str]) -> Output {
    env.command().arg("aggregate").args(arguments).output().unwrap()
}

/// Takes in what is stored, and returns the number of events.
fn once(env: &TestEnv) -> u64 {
    let output = aggregate(env, &["--once", "--json"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice::<Value>(&output.stdout).unwrap()["events"].as_u64().unwrap()
}

/// Checks that the summaries are what the events say, and returns what was compared.
fn verified(env: &TestEnv) -> Value {
    let output = aggregate(env, &["verify", "--json"]);
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(output.status.success() && told["different"] == 0, "{told}");
    told
}

/// Events of every known type, and of others, with states and odd payloads, dated within two days.
const HISTORY: &str = r#"
    insert into enrichment_events (event_id, event_type, bom_id, tenant_id, source, workflow_id, organization_id, state, payload, created_at)
    select $1 || n, (array['processing_started', 'stage_started', 'stage_completed', 'enrichment_progress', 'risk_alert', 'workflow_paused',
            'workflow_resumed', 'error', 'component_matched', 'api_call_made', 'cache_hit', 'cache_miss', 'label_printed'])[1 + n % 13],
        ('00000000-0000-4000-8000-0000000000b' || n % 5)::uuid, ('00000000-0000-4000-8000-00000000000' || n % 3)::uuid,
        case n % 4 when 0 then 'staff' else 'customer' end, case when n % 11 > 0 then 'w' || n % 17 end, 'org-' || n % 2,
        case n % 6 when 0 then jsonb_build_object('status', (array['running', 'completed', 'failed'])[1 + n % 3], 'percent', n % 100)
            when 1 then '{"current_stage": "parsing", "total_items": 66, "completed_items": "many"}' else '{}' end,
        jsonb_build_object('stage', 'stage-' || n % 4, 'duration_ms', n * 7.5, 'mpn', 'LM' || n % 40, 'status', 'matched',
            'severity', (array['critical', 'high', null])[1 + n % 3], 'risk_score', n % 101, 'error_message', 'broke ' || n, 'total_items', 66),
        '2026-03-01 00:00:00+00'::timestamptz + (n * 7919 % 172800) * interval '1 second'
    from generate_series(1, $2) n on conflict do nothing"#;

async fn store(sql: &tokio_postgres::Client, ids: &str, count: i32) {
    sql.execute(HISTORY, &[&ids, &count]).await.unwrap();
}

/// Everything that is stored is summed once: at the first start, late, dated back, by other writers; what is not stored is not.
#[tokio::test(flavor = "multi_thread")]
async fn summaries_are_exact() {
    let env = TestEnv::new("summaries").await;
    store(&env.sql, "before", 500).await;
    assert_eq!(once(&env), 500, "the first start reads the table");
    assert_eq!(verified(&env)["tenants"], 3);
    let late = connect(&env.database_url).await;
    late.batch_execute("begin").await.unwrap();
    store(&late, "late", 300).await;
    store(&env.sql, "more", 400).await;
    store(&env.sql, "more", 400).await;
    env.sql.batch_execute("begin").await.unwrap();
    store(&env.sql, "rolled", 400).await;
    env.sql.batch_execute("rollback").await.unwrap();
    assert_eq!(once(&env), 400);
    assert_eq!(once(&env), 0);
    late.batch_execute("commit").await.unwrap();
    assert_eq!(once(&env), 300, "what commits last is taken in by the next look");
    let told = verified(&env);
    assert_eq!(told["events"], 1200);
    // Stated twice: the sums of the tables themselves.
    for (sql, expected) in [
        ("select sum(events)::bigint from event_counts", 1200),
        (
            "select sum(events)::bigint from event_counts where event_type = 'other'",
            500 / 13 + 400 / 13 + 300 / 13,
        ),
        ("select sum(events)::bigint from workflow_runs", 1200 - 500 / 11 - 400 / 11 - 300 / 11),
        ("select count(distinct stage) from stage_times", 4),
        (
            "select count(*) from workflow_parts where mpn = 'LM9' and tenant_id = '00000000-0000-4000-8000-000000000000'",
            -1,
        ),
    ] {
        let found = env.number(sql).await;
        assert!(if expected < 0 { found > 0 } else { found == expected }, "{sql}: {found}");
    }
}

/// A summary that is wrong is found, by its table and key, and a rebuild mends it; also from an hour on.
#[tokio::test(flavor = "multi_thread")]
async fn verify_finds_what_is_wrong_and_rebuild_mends_it() {
    let env = TestEnv::new("summariesverify").await;
    store(&env.sql, "e", 900).await;
    once(&env);
    for from in [None, Some("2026-03-01T20:00:00Z")] {
        env.sql
            .batch_execute(
                "update event_counts set events = events + 1 where hour = '2026-03-02 03:00:00+00' and event_type = 'error'; \
                 update workflow_runs set fold = fold || '{\"errors\": 7777}' where workflow_id = 'w3' and last_at >= '2026-03-01 20:00:00+00'; \
                 delete from stage_times where hour = '2026-03-02 05:00:00+00'",
            )
            .await
            .unwrap();
        let output = aggregate(&env, &["verify"]);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(1), "{text}");
        for words in ["event_counts 2026-03-02 03 error", "workflow_runs w3 ", "stage_times 2026-03-02 05 "] {
            assert!(text.contains(words), "{words}: {text}");
        }
        assert!(String::from_utf8_lossy(&output.stderr).contains("aggregate rebuild"));
        let mut arguments = vec!["rebuild"];
        arguments.extend(from.iter().flat_map(|from| ["--from", from]));
        let rebuilt = aggregate(&env, &arguments);
        assert!(rebuilt.status.success(), "{}", String::from_utf8_lossy(&rebuilt.stderr));
        verified(&env);
    }
}

/// Writers of all kinds at work, and the task killed at any moment, again and again, in two processes: the sums are right.
#[tokio::test(flavor = "multi_thread")]
async fn kills_at_any_moment_change_no_sum() {
    let env = TestEnv::new("summarieskill").await;
    env.declare().await;
    let worker = env.worker().await;
    let task = || -> Child {
        let mut command = env.command();
        command
            .arg("aggregate")
            .env("CNS_EVENTS__LOG__LEVEL", "off")
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        command.spawn().unwrap()
    };
    let writers = (0..3).map(|writer| {
        let url = env.database_url.clone();
        tokio::spawn(async move {
            let client = connect(&url).await;
            for batch in 0..60 {
                let begin_and_end = if batch % 5 == 4 { ("begin", "rollback") } else { ("begin", "commit") };
                client.batch_execute(begin_and_end.0).await.unwrap();
                store(&client, &format!("w{writer}-{}-", batch / 2), 20).await;
                // A slow writer: others commit meanwhile.
                tokio::time::sleep(Duration::from_millis(if writer == 0 { 60 } else { 5 })).await;
                client.batch_execute(begin_and_end.1).await.unwrap();
            }
        })
    });
    let writers: Vec<_> = writers.collect();
    let mut tasks = [task(), task()];
    for kill in 0..40_u64 {
        // A round lasts some milliseconds: its every part is met.
        tokio::time::sleep(Duration::from_millis(20 + kill * 37 % 90)).await;
        let one = (kill % 2) as usize;
        tasks[one].kill().unwrap();
        tasks[one].wait().unwrap();
        tasks[one] = task();
        env.publish(event(&format!("p{kill}")).as_bytes()).await;
    }
    for writer in writers {
        writer.await.unwrap();
    }
    eventually("the published ones are stored", async || worker.metric_value("cns_events_in_flight") == 0.0)
        .await;
    for mut task in tasks {
        task.kill().unwrap();
        task.wait().unwrap();
    }
    let told = verified(&env);
    assert_eq!(told["events"].as_i64().unwrap(), env.rows().await);
}

/// After a restore into another cluster the journal is emptied and the summaries are made anew; so too where the journal is pruned past
/// the position, and where somebody deleted the position.
#[tokio::test(flavor = "multi_thread")]
async fn a_position_that_cannot_be_continued_begins_anew() {
    let env = TestEnv::new("summariesreset").await;
    store(&env.sql, "a", 300).await;
    once(&env);
    for broken in [
        "update enrichment_journal_state set system_identifier = 1; update enrichment_positions set system_identifier = 1",
        "update enrichment_positions set system_identifier = 1",
        "update enrichment_positions set passed = '99999999:99999999:'",
        "update enrichment_journal_state set journal_pruned_to = (select max(xact::text::bigint) from enrichment_journal)::text::xid8",
        "delete from enrichment_positions",
    ] {
        store(&env.sql, &format!("before {broken} "), 100).await;
        env.sql.batch_execute(broken).await.unwrap();
        store(&env.sql, &format!("after {broken} "), 100).await;
        once(&env);
        verified(&env);
        assert_eq!(once(&env), 0, "{broken}");
    }
    assert_eq!(env.number("select count(*) from enrichment_journal_state where system_identifier = (select system_identifier from pg_control_system())").await, 1);
    assert_eq!(verified(&env)["events"], 1300);
}

/// Times and texts that PostgreSQL and JSON know and other systems do not: none of them stops the task.
#[tokio::test(flavor = "multi_thread")]
async fn odd_rows_stop_nothing() {
    let env = TestEnv::new("summariesodd").await;
    let long = "x".repeat(3000);
    for (number, (payload, created_at)) in [
        ("{}", "infinity"),
        ("{}", "-infinity"),
        ("{}", "4713-01-01 00:00:00 BC"),
        ("{}", "294276-12-31 23:59:59"),
        (
            &*format!(r#"{{"mpn":"{long}","stage":"{long}","duration_ms":1e300,"status":"{long}"}}"#),
            "2026-01-01",
        ),
        (r#"{"mpn":{"a":1},"stage":[],"duration_ms":-1}"#, "2026-01-01"),
        (r#"{"mpn":"\ud83d\ude00","stage":"\u0001","duration_ms":1e131071}"#, "2026-01-01"),
    ]
    .into_iter()
    .enumerate()
    {
        for event_type in ["stage_completed", "enrichment_progress", "error"] {
            let insert = "insert into enrichment_events (event_id, event_type, bom_id, tenant_id, source, workflow_id, state, payload, created_at) \
                 values ($1, $2, '00000000-0000-4000-8000-00000000000b', '00000000-0000-4000-8000-000000000001', 'staff', $3, $4::text::jsonb, \
                 $5::text::jsonb, $6::text::timestamptz)";
            let state =
                format!(r#"{{"status":"{long}","total_items":1e300,"percent":-5,"current_stage":"{long}"}}"#);
            env.sql
                .execute(
                    insert,
                    &[
                        &format!("{event_type}{number}"),
                        &event_type,
                        &"w".repeat(255),
                        &state,
                        &payload,
                        &created_at,
                    ],
                )
                .await
                .unwrap();
        }
        assert_eq!(once(&env), 3, "{number}");
    }
    assert_eq!(verified(&env)["events"], 21);
}

/// A login without the role is told what to grant; the task is refused nothing that it needs.
#[tokio::test(flavor = "multi_thread")]
async fn the_role_is_enough_and_needed() {
    let env = TestEnv::new("summariesrole").await;
    store(&env.sql, "e", 100).await;
    let (login, url) = env.login("in role service_role").await;
    let run = |arguments: &[&str]| {
        let mut command = env.command();
        command.env("CNS_EVENTS__DATABASE__URL", &url).arg("aggregate").args(arguments).output().unwrap()
    };
    let refused = run(&["--once"]);
    let text = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && text.contains("grant cns_events_aggregate"), "{text}");
    env.sql
        .batch_execute(&format!("grant cns_events_aggregate to {login}; revoke service_role from {login}"))
        .await
        .unwrap();
    for arguments in [&["--once"][..], &["rebuild"], &["verify"]] {
        let output = run(arguments);
        assert!(output.status.success(), "{arguments:?} {}", String::from_utf8_lossy(&output.stderr));
    }
    env.drop_login(&login).await;
}
