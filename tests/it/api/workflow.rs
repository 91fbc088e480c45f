//! One workflow, which is exact before the summaries are; the time and the position that answers are of; risk alerts.

use chrono::{DateTime, Utc};
use cns_events::store::journal::Position;
use serde_json::{Value, json};
use uuid::Uuid;

use super::summaries::{BOM, aggregate, store, time, unlimited, whole};
use crate::env::TestEnv;
use crate::env::tokens::token;

fn position(body: &Value) -> Position {
    body["stream_cursor"].as_str().unwrap().parse().unwrap()
}

/// Before, during and after the task has taken its events in, a workflow is what its events say; as of a time, what they said then.
#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_is_exact_at_once() {
    let env = TestEnv::new("exact").await;
    let tenant = Uuid::new_v4();
    let served = unlimited(&env).await;
    let token = token(tenant);
    let get = |path: &str| {
        let answer = served.get(path, &token);
        assert_eq!(answer.status, 200, "{path}: {:?}", String::from_utf8_lossy(&answer.body));
        answer.json()
    };
    let run = |path: &str| get(path)["runs"][0].clone();
    assert_eq!(get("/v1/workflows/w-1")["runs"], json!([]));
    whole(&env, tenant, "w-1").await;
    let never_summed = run("/v1/workflows/w-1");
    for (field, expected) in [
        ("status", json!("completed")),
        ("stage", json!("enrichment")),
        ("percent", json!(100)),
        ("total_items", json!(4)),
        ("completed_items", json!(4)),
        ("events", json!(9)),
        ("pauses", json!(1)),
        ("paused_ms", json!(30_000)),
        ("risks", json!({"critical": 1, "high": 0, "medium": 0})),
        ("bom_id", json!(BOM)),
        ("organization_id", json!("org-1")),
        ("ended_at", json!("2026-03-01T10:01:20Z")),
    ] {
        assert_eq!(never_summed[field], expected, "{field}");
    }
    let stages = never_summed["stages"].as_array().unwrap();
    assert_eq!(stages.len(), 2);
    assert_eq!((&stages[1]["stage"], &stages[1]["duration_ms"]), (&json!("enrichment"), &json!(76000.0)));

    aggregate(&env);
    assert_eq!(run("/v1/workflows/w-1"), never_summed, "all summed up");
    let mut listed = get("/v1/workflows")["workflows"][0].clone();
    listed["stages"] = never_summed["stages"].clone();
    assert_eq!(listed, never_summed, "the list has the same");

    // More events: of this workflow, of another BOM's, dated back, and of another workflow.
    store(&env, tenant, "w-1", 90, "error", json!({}), json!({"error_message": "late"})).await;
    store(
        &env,
        tenant,
        "w-1",
        2,
        "stage_completed",
        json!({}),
        json!({"stage": "parsing", "duration_ms": 5}),
    )
    .await;
    store(&env, tenant, "w-2", 5, "error", json!({}), json!({})).await;
    let half = run("/v1/workflows/w-1");
    assert_eq!(
        (&half["events"], &half["errors"], &half["status"]),
        (&json!(11), &json!(1), &json!("completed"))
    );
    assert_eq!(half["stages"].as_array().unwrap().len(), 3);
    assert_eq!(get("/v1/workflows?q=w-1")["workflows"][0]["events"], 9, "the list waits for the task");
    let whole_body = get("/v1/workflows/w-1");
    assert!((Utc::now() - time(&whole_body["as_of"])).num_seconds() < 60);
    assert!(position(&whole_body).epoch == position(&get("/v1/errors")).epoch);
    aggregate(&env);
    assert_eq!(run("/v1/workflows/w-1"), half);

    // As it was.
    let then = |at: &str| run(&format!("/v1/workflows/w-1?at={at}"));
    let paused = then("2026-03-01T10:00:20Z");
    assert_eq!(
        (&paused["status"], &paused["percent"], &paused["events"], &paused["ended_at"]),
        (&json!("paused"), &json!(25), &json!(7), &Value::Null)
    );
    assert_eq!(paused["stages"][2]["completed_at"], Value::Null);
    assert_eq!(then("2026-03-01T12:00:20%2B02:00"), then("2026-03-01T10:00:20Z"), "an offset is one");
    assert_eq!(then("2027-01-01T00:00:00Z"), half);
    assert_eq!(get("/v1/workflows/w-1?at=2026-03-01T09:59:59Z")["runs"], json!([]));

    // What prune has deleted stays in the sums, and the stages are not known any more.
    let pruned = env.command().args(["prune", "--older-than", "7d", "--yes"]).output().unwrap();
    assert!(pruned.status.success(), "{}", String::from_utf8_lossy(&pruned.stderr));
    assert_eq!(env.rows().await, 0);
    let mut kept = run("/v1/workflows/w-1");
    assert_eq!(kept["stages"], Value::Null);
    kept["stages"] = half["stages"].clone();
    assert_eq!(kept, half);
    store(&env, tenant, "w-1", 100, "stage_started", json!({"status": "running"}), json!({"stage": "again"}))
        .await;
    let reopened = run("/v1/workflows/w-1");
    assert_eq!(
        (&reopened["events"], &reopened["status"], &reopened["stages"], &reopened["ended_at"]),
        (&json!(12), &json!("running"), &Value::Null, &Value::Null)
    );
    // Restored into another cluster: nothing tells what is summed up, and what is left is folded.
    env.sql
        .batch_execute("update enrichment_positions set system_identifier = system_identifier + 1")
        .await
        .unwrap();
    let foreign = run("/v1/workflows/w-1");
    assert_eq!(
        (&foreign["events"], &foreign["status"]),
        (&json!(11), &json!("running")),
        "the sums of the deleted stay"
    );
}

/// `as_of` is now where nothing of the tenant's waits, and else the time that everything is summed up to; the cursor is the position.
#[tokio::test(flavor = "multi_thread")]
async fn answers_tell_the_time_and_the_position_that_they_are_of() {
    let env = TestEnv::new("asof").await;
    let (busy, idle) = (Uuid::new_v4(), Uuid::new_v4());
    let served = unlimited(&env).await;
    whole(&env, busy, "w").await;
    aggregate(&env);
    let summed_at = async || -> DateTime<Utc> {
        env.sql.query_one("select as_of from enrichment_positions", &[]).await.unwrap().get(0)
    };
    let (busy, idle) = (token(busy), token(idle));
    let paths = [
        "/v1/workflows".to_owned(),
        "/v1/summary".to_owned(),
        "/v1/stages".to_owned(),
        format!("/v1/boms/{BOM}"),
    ];
    let as_of = |path: &str, token: &str| time(&served.get(path, token).json()["as_of"]);
    let summed = summed_at().await;
    for path in &paths {
        assert!(as_of(path, &busy) > summed && as_of(path, &idle) > summed, "{path}");
    }
    // A writer that began first commits last: what it stored waits, of its tenant alone.
    let owner = Uuid::new_v4();
    let late = crate::env::connect(&env.database_url).await;
    late.batch_execute("begin; select pg_current_xact_id()").await.unwrap();
    let insert = "insert into enrichment_events (event_id, event_type, bom_id, tenant_id, source, workflow_id) values (gen_random_uuid(), 'x', $1, $1, 'customer', 'w')";
    late.execute(insert, &[&owner]).await.unwrap();
    whole(&env, Uuid::new_v4(), "w").await;
    aggregate(&env);
    let (owner, summed) = (token(owner), summed_at().await);
    assert!(as_of("/v1/workflows", &owner) > summed, "nothing is visible yet");
    late.batch_execute("commit").await.unwrap();
    let position_text: String =
        env.sql.query_one("select passed::text from enrichment_positions", &[]).await.unwrap().get(0);
    for path in &paths {
        let body = served.get(path, &owner).json();
        assert_eq!(time(&body["as_of"]), summed, "{path}: {body}");
        assert!(as_of(path, &busy) > summed, "{path}");
        assert_eq!(position(&body).passed.to_string(), position_text, "{path}");
    }
    // Lists of events are of now.
    for path in ["/v1/errors", "/v1/risks", "/v1/workflows/w/events", "/v1/workflows/w"] {
        let here = position(&served.get(path, &owner).json());
        assert_ne!(here.passed.to_string(), position_text, "{path}");
        let text = here.to_string();
        assert!(text.len() < 8192 && here.page.is_none());
    }
    aggregate(&env);
    let summed = summed_at().await;
    assert!(paths.iter().all(|path| as_of(path, &owner) > summed));
    // Part of a look: its rows that were taken in do not wait, the others do.
    env.sql
        .batch_execute(
            "update enrichment_positions set look = pg_current_snapshot(), passed = '3:3:', \
             (look_xact, look_seq) = (select xact, seq from enrichment_journal order by xact desc, seq desc limit 1)",
        )
        .await
        .unwrap();
    assert!(as_of("/v1/workflows", &owner) > summed);
    env.sql.batch_execute("update enrichment_positions set look_xact = '4', look_seq = 1").await.unwrap();
    assert_eq!(as_of("/v1/workflows", &owner), summed);
    assert!(as_of("/v1/workflows", &idle) > summed);
}

/// Risk alerts have the severity that summaries count, whatever their payload is, and no payload.
#[tokio::test(flavor = "multi_thread")]
async fn risks_have_the_severity_of_the_summaries() {
    let env = TestEnv::new("risks").await;
    let tenant = Uuid::new_v4();
    let served = unlimited(&env).await;
    let token = token(tenant);
    let odd = [
        json!({"component_id": "c-1", "risk_score": 80, "secret": 1}),
        json!({"component_id": 7, "risk_score": 79.99}),
        json!({"component_id": {"a": 1}, "risk_score": 59}),
        json!({"component_id": "x".repeat(300), "severity": "critical", "risk_score": 1}),
        json!({"severity": "high"}),
        json!({"severity": "CRITICAL", "risk_score": 99}),
        json!({"severity": ["critical"], "risk_score": "99"}),
        json!({"severity": null, "risk_score": null}),
        json!({"severity": "low", "risk_score": -5}),
        json!({"risk_score": true}),
        json!([1]),
    ];
    let insert = "insert into enrichment_events (event_id, event_type, bom_id, tenant_id, source, workflow_id, payload, created_at) \
                  values (gen_random_uuid(), 'risk_alert', $1, $2, 'customer', $3, $4::text::jsonb, now() - make_interval(secs => $5))";
    let huge = ["1e400", "-1e400", "1e308", "60.0000000000000000000000001"]
        .map(|score| format!("{{\"risk_score\": {score}}}"));
    let payloads: Vec<String> = odd.iter().map(Value::to_string).chain(huge).collect();
    for (number, payload) in payloads.iter().enumerate() {
        let (workflow, age) = (format!("w-{number}"), number as f64);
        env.sql.execute(insert, &[&BOM, &tenant, &workflow, payload, &age]).await.unwrap();
    }
    let other = Uuid::new_v4();
    env.sql.execute(insert, &[&BOM, &other, &"w-0", &"{}".to_owned(), &0.0]).await.unwrap();
    aggregate(&env);
    let get = |path: &str| served.get(path, &token).json();
    let all = get("/v1/risks");
    let risks = all["risks"].as_array().unwrap();
    assert_eq!(risks.len(), payloads.len());
    let names: Vec<&String> = risks[0].as_object().unwrap().keys().collect();
    assert_eq!(
        names,
        ["bom_id", "component_id", "created_at", "event_id", "risk_score", "severity", "workflow_id"]
    );
    assert_eq!((&risks[0]["component_id"], &risks[0]["risk_score"]), (&json!("c-1"), &json!(80.0)));
    assert_eq!((&risks[1]["component_id"], &risks[2]["component_id"]), (&json!("7"), &Value::Null));
    assert_eq!(risks[3]["component_id"].as_str().unwrap().len(), 255);
    for risk in risks {
        let workflow = risk["workflow_id"].as_str().unwrap();
        let summed = get(&format!("/v1/workflows?q={workflow}"))["workflows"]
            .as_array()
            .unwrap()
            .iter()
            .find(|run| run["workflow_id"] == workflow)
            .unwrap()["risks"]
            .clone();
        assert_eq!(summed[risk["severity"].as_str().unwrap()], 1, "{risk}: {summed}");
    }
    let mut sum = 0;
    for severity in ["critical", "high", "medium"] {
        let (mut found, mut cursor) = (Vec::new(), String::new());
        loop {
            let page = get(&format!("/v1/risks?severity={severity}&limit=2{cursor}"));
            found.extend(page["risks"].as_array().unwrap().clone());
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        let expected: Vec<Value> =
            risks.iter().filter(|risk| risk["severity"] == severity).cloned().collect();
        assert_eq!(found, expected, "{severity}");
        sum += found.len();
    }
    assert_eq!(sum, risks.len());
}
