//! The endpoints that are made of summaries, and the workflow that is exact before they are.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use cns_events::store::journal::Position;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::env::TestEnv;
use crate::env::api_server::ApiServer;
use crate::env::tokens::token;

const BOM: Uuid = Uuid::from_u128(0xb0);

/// Time of the first event of [`store`].
const BEGIN: &str = "2026-03-01T10:00:00Z";

/// Takes in what is stored.
pub fn aggregate(env: &TestEnv) {
    let output = env.command().args(["aggregate", "--once"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Stores one event, `second` seconds after [`BEGIN`].
pub async fn store(
    env: &TestEnv,
    tenant: Uuid,
    workflow: &str,
    second: i64,
    kind: &str,
    state: Value,
    payload: Value,
) {
    let at = BEGIN.parse::<DateTime<Utc>>().unwrap() + chrono::TimeDelta::seconds(second);
    let insert = "insert into enrichment_events (event_id, event_type, bom_id, tenant_id, organization_id, source, workflow_id, state, \
                  payload, created_at) values (gen_random_uuid(), $1, $2, $3, 'org-1', 'customer', $4, $5::text::jsonb, $6::text::jsonb, $7)";
    let (state, payload) = (state.to_string(), payload.to_string());
    env.sql.execute(insert, &[&kind, &BOM, &tenant, &workflow, &state, &payload, &at]).await.unwrap();
}

/// A workflow from its begin to its end: nine events within 80 seconds.
pub async fn whole(env: &TestEnv, tenant: Uuid, workflow: &str) {
    let none = || json!({});
    for (second, kind, state, payload) in [
        (0, "processing_started", none(), json!({"total_items": 4})),
        (1, "stage_started", none(), json!({"stage": "parsing"})),
        (3, "stage_completed", none(), json!({"stage": "parsing", "duration_ms": 1900})),
        (4, "stage_started", none(), json!({"stage": "enrichment"})),
        (
            10,
            "enrichment_progress",
            json!({"percent": 25, "completed_items": 1}),
            json!({"mpn": "LM358", "status": "matched"}),
        ),
        (20, "workflow_paused", none(), json!({"reason": "lunch"})),
        (50, "workflow_resumed", none(), json!({"reason": "back"})),
        (60, "risk_alert", none(), json!({"component_id": "c-1", "risk_score": 85})),
        (
            80,
            "stage_completed",
            json!({"status": "completed", "percent": 100, "completed_items": 4}),
            json!({"stage": "enrichment", "duration_ms": 76000}),
        ),
    ] {
        store(env, tenant, workflow, second, kind, state, payload).await;
    }
}

fn position(body: &Value) -> Position {
    body["stream_cursor"].as_str().unwrap().parse().unwrap()
}

fn time(value: &Value) -> DateTime<Utc> {
    value.as_str().unwrap().parse().unwrap()
}

/// Before, during and after the task has taken its events in, a workflow is what its events say; as of a time, what they said then.
#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_is_exact_at_once() {
    let env = TestEnv::new("exact").await;
    let tenant = Uuid::new_v4();
    let served = ApiServer::start(&env, |_| {}).await;
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

/// Pages in order, each run once, also of the same moment; every filter by itself.
#[tokio::test(flavor = "multi_thread")]
async fn workflows_are_listed_by_their_last_activity() {
    let env = TestEnv::new("runlist").await;
    let tenant = Uuid::new_v4();
    let fill = "insert into enrichment_events (event_id, event_type, bom_id, tenant_id, organization_id, source, workflow_id, state, payload, created_at) \
                select gen_random_uuid(), case n % 2 when 0 then 'error' else 'component_matched' end, ('00000000-0000-4000-8000-00000000000' || n % 4)::uuid, $1, 'org-' || n % 3, \
                'customer', 'w-' || n || case n % 5 when 0 then '/ü%' else '' end, jsonb_build_object('status', (array['running', 'completed', 'failed'])[1 + n % 3], \
                'current_stage', 'stage-' || n % 2), jsonb_build_object('mpn', 'LM' || n % 10), now() - make_interval(mins => n / 6) from generate_series(1, 120) n";
    env.sql.execute(fill, &[&tenant]).await.unwrap();
    let served = ApiServer::start(&env, |command| {
        command.env("CNS_EVENTS__API__STALLED_MINUTES", "10");
    })
    .await;
    let token = token(tenant);
    let none = served.get("/v1/workflows", &token);
    assert_eq!((none.status, &none.json()["type"]), (503, &json!("urn:cns-events:problem:no-summaries")));
    assert!(none.json()["detail"].as_str().unwrap().contains("`cns-events aggregate` has not run"));
    aggregate(&env);

    let pages = |filter: &str, limit: usize| {
        let (mut runs, mut cursor) = (Vec::new(), String::new());
        loop {
            let path = format!("/v1/workflows?{filter}&limit={limit}{cursor}");
            let answer = served.get(&path, &token);
            assert_eq!(answer.status, 200, "{path}: {}", String::from_utf8_lossy(&answer.body));
            let page = answer.json();
            let found = page["workflows"].as_array().unwrap().clone();
            assert!(found.len() == limit || page["next_cursor"].is_null());
            runs.extend(found);
            let Some(next) = page["next_cursor"].as_str() else { break };
            cursor = format!("&cursor={next}");
        }
        runs
    };
    let all = pages("", 1000);
    assert_eq!(all.len(), 120);
    assert!(all.is_sorted_by(|newer, older| time(&newer["last_at"]) >= time(&older["last_at"])));
    for limit in [1, 7, 119, 120] {
        assert_eq!(pages("", limit), all, "{limit}");
    }
    let ids = |runs: &[Value]| runs.iter().map(|run| run["workflow_id"].to_string()).collect::<BTreeSet<_>>();
    for (filter, wanted) in [
        ("status=failed", &(|run: &Value| run["status"] == "failed") as &dyn Fn(&Value) -> bool),
        ("stage=stage-1", &|run| run["stage"] == "stage-1"),
        ("organization=org-2", &|run| run["organization_id"] == "org-2"),
        ("bom=00000000-0000-4000-8000-000000000003", &|run| {
            run["bom_id"] == "00000000-0000-4000-8000-000000000003"
        }),
        ("q=w-11", &|run| run["workflow_id"].as_str().unwrap().starts_with("w-11")),
        ("q=w-10%2F%C3%BC%25", &|run| run["workflow_id"] == "w-10/ü%"),
        ("q=%25", &|_| false),
        ("mpn=LM3", &|run| run["workflow_id"].as_str().unwrap().ends_with('3')),
        ("mpn=LM", &|_| false),
        ("status=completed&organization=org-1&stage=stage-1", &|run| {
            run["status"] == "completed" && run["organization_id"] == "org-1" && run["stage"] == "stage-1"
        }),
        ("status=stalled", &|run| {
            run["status"] == "running" && Utc::now() - time(&run["last_at"]) > chrono::TimeDelta::minutes(10)
        }),
    ] {
        let expected: Vec<Value> = all.iter().filter(|run| wanted(run)).cloned().collect();
        let found = pages(filter, 5);
        assert_eq!(ids(&found), ids(&expected), "{filter}");
        assert_eq!(found.len(), expected.len(), "{filter}");
    }
}

/// `as_of` is now where nothing of the tenant's waits, and else the time that everything is summed up to; the cursor is the position.
#[tokio::test(flavor = "multi_thread")]
async fn answers_tell_the_time_and_the_position_that_they_are_of() {
    let env = TestEnv::new("asof").await;
    let (busy, idle) = (Uuid::new_v4(), Uuid::new_v4());
    let served = ApiServer::start(&env, |_| {}).await;
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

/// Numbers by hour and day, times of stages, sums of a BOM.
#[tokio::test(flavor = "multi_thread")]
async fn numbers_are_those_of_the_events() {
    let env = TestEnv::new("numbers").await;
    let tenant = Uuid::new_v4();
    let served = ApiServer::start(&env, |_| {}).await;
    let token = token(tenant);
    let get = |path: &str| {
        let answer = served.get(path, &token);
        assert_eq!(answer.status, 200, "{path}: {:?}", String::from_utf8_lossy(&answer.body));
        answer.json()
    };
    whole(&env, tenant, "w-1").await;
    whole(&env, tenant, "w-2").await;
    store(&env, tenant, "w-2", 3600, "label_printed", json!({"status": "failed"}), json!({})).await;
    store(
        &env,
        tenant,
        "w-3",
        86_400,
        "stage_completed",
        json!({}),
        json!({"stage": "parsing", "duration_ms": 100}),
    )
    .await;
    aggregate(&env);
    let day = "from=2026-03-01T10:30:00Z&to=2026-03-02T10:00:01Z";
    let hours = get(&format!("/v1/summary?{day}"));
    assert_eq!(
        (&hours["from"], &hours["to"]),
        (&json!("2026-03-01T10:00:00Z"), &json!("2026-03-02T11:00:00Z"))
    );
    let steps: Vec<_> = hours["steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| (step["at"].as_str().unwrap(), step["events"].as_i64().unwrap()))
        .collect();
    assert_eq!(
        steps,
        [("2026-03-01T10:00:00Z", 18), ("2026-03-01T11:00:00Z", 1), ("2026-03-02T10:00:00Z", 1)]
    );
    assert_eq!(hours["steps"][0]["counts"]["stage_completed"], 4);
    assert_eq!((&hours["totals"]["other"], &hours["totals"]["stage_completed"]), (&json!(1), &json!(5)));
    assert_eq!(hours["workflows"], json!({"completed": 1, "failed": 1, "running": 1}));
    let days = get(&format!("/v1/summary?{day}&step=day&by=source"));
    assert_eq!(
        days["steps"][0],
        json!({"at": "2026-03-01T00:00:00Z", "events": 19, "counts": {"customer": 19}})
    );
    assert_eq!((&days["totals"], &days["to"]), (&json!({"customer": 20}), &json!("2026-03-03T00:00:00Z")));
    assert_eq!(get("/v1/summary")["steps"], json!([]), "the last 24 hours");

    let stages = get(&format!("/v1/stages?{day}"));
    let [enrichment, parsing] = &stages["stages"].as_array().unwrap()[..] else { panic!("{stages}") };
    assert_eq!(
        (&enrichment["stage"], &enrichment["count"], &parsing["count"]),
        (&json!("enrichment"), &json!(2), &json!(3))
    );
    for (stage, quantile, exact) in
        [(enrichment, "p50", 76_000.0), (parsing, "p50", 1900.0), (parsing, "p99", 1900.0)]
    {
        let found = stage[quantile].as_f64().unwrap();
        assert!((found / exact - 1.0).abs() < 0.1, "{quantile}: {found} for {exact}");
    }
    assert_eq!(get("/v1/stages")["stages"], json!([]));

    let bom = get(&format!("/v1/boms/{BOM}"));
    assert_eq!(bom["runs"].as_array().unwrap().len(), 3);
    let sums = &bom["sums"];
    assert_eq!((&sums["runs"], &sums["events"], &sums["paused_ms"]), (&json!(3), &json!(20), &json!(60_000)));
    assert_eq!((&sums["risks"]["critical"], &sums["first_at"]), (&json!(2), &json!(BEGIN)));
    assert_eq!(sums["statuses"], json!({"completed": 1, "failed": 1, "running": 1}));
    let none = get(&format!("/v1/boms/{}", Uuid::new_v4()));
    assert_eq!(
        (&none["runs"], &none["sums"]["runs"], &none["sums"]["first_at"]),
        (&json!([]), &json!(0), &Value::Null)
    );
}

/// Risk alerts have the severity that summaries count, whatever their payload is, and no payload.
#[tokio::test(flavor = "multi_thread")]
async fn risks_have_the_severity_of_the_summaries() {
    let env = TestEnv::new("risks").await;
    let tenant = Uuid::new_v4();
    let served = ApiServer::start(&env, |_| {}).await;
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

/// A question that cannot be answered is a 400 that names the parameter.
#[tokio::test(flavor = "multi_thread")]
async fn invalid_questions_are_refused() {
    let env = TestEnv::new("sumbad").await;
    let served = ApiServer::start(&env, |_| {}).await;
    let (token, long) = (token(Uuid::new_v4()), "x".repeat(1001));
    for (path, named) in [
        ("/v1/workflows?limit=0", "limit: must be from 1 to 1000"),
        ("/v1/workflows?limit=1001", "limit"),
        ("/v1/workflows?bom=x", "bom"),
        ("/v1/workflows?status=", "status: is empty"),
        ("/v1/workflows?q=", "q: is empty"),
        ("/v1/workflows?stage=%00", "stage"),
        (&format!("/v1/workflows?mpn={long}"), "mpn"),
        (&format!("/v1/workflows?organization={long}"), "organization"),
        ("/v1/workflows?cursor=x", "cursor: is not a cursor"),
        ("/v1/workflows?cursor=AAYEkV2jGAABojv0nRJ5YrPBLnUzvjQR", "cursor"),
        ("/v1/workflows?at=2026-01-01T00:00:00Z", "at"),
        ("/v1/workflows/w?at=yesterday", "at: is not an RFC 3339 time"),
        ("/v1/workflows/w?limit=1", "limit"),
        ("/v1/workflows/%00", "workflow_id"),
        ("/v1/boms/x", "bom_id"),
        ("/v1/boms/00000000-0000-4000-8000-000000000000?limit=1", "limit"),
        ("/v1/summary?step=week", "step: is not one of hour, day"),
        ("/v1/summary?by=tenant", "by: is not one of type, source"),
        ("/v1/summary?from=2026-01-01T00:00:00Z&to=2026-01-01T00:00:00Z", "from: is not before `to`"),
        (
            "/v1/summary?from=2026-01-01T00:00:00Z&to=2026-03-01T00:00:00Z",
            "from: is more than 31 days before `to`; with step=day",
        ),
        (
            "/v1/summary?step=day&from=2024-01-01T00:00:00Z&to=2026-03-01T00:00:00Z",
            "from: is more than 400 days",
        ),
        ("/v1/summary?from=1", "from"),
        ("/v1/stages?from=2024-01-01T00:00:00Z&to=2026-03-01T00:00:00Z", "from: is more than 400 days"),
        ("/v1/stages?by=type", "by"),
        ("/v1/risks?severity=low", "severity: is not one of critical, high, medium"),
        ("/v1/risks?hours=0", "hours"),
        ("/v1/risks?cursor=x", "cursor"),
    ] {
        let answer = served.get(path, &token);
        assert_eq!(answer.status, 400, "{path}: {}", String::from_utf8_lossy(&answer.body));
        assert!(answer.json()["detail"].as_str().unwrap().contains(named), "{path}: {}", answer.json());
    }
}
