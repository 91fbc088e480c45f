//! The endpoints that are made of summaries.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::env::TestEnv;
use crate::env::api_server::ApiServer;
use crate::env::tokens::token;

pub const BOM: Uuid = Uuid::from_u128(0xb0);

/// Time of the first event of [`store`].
const BEGIN: &str = "2026-03-01T10:00:00Z";

/// Takes in what is stored.
pub fn aggregate(env: &TestEnv) {
    let output = env.command().args(["aggregate", "--once"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Starts the API without a rate limit.
pub async fn unlimited(env: &TestEnv) -> ApiServer {
    ApiServer::start(env, |command| {
        command.env("CNS_EVENTS__API__RATE_LIMIT", "0");
    })
    .await
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

pub fn time(value: &Value) -> DateTime<Utc> {
    value.as_str().unwrap().parse().unwrap()
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
        command.env("CNS_EVENTS__API__STALLED_MINUTES", "10").env("CNS_EVENTS__API__RATE_LIMIT", "0");
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

/// Numbers by hour and day, times of stages, sums of a BOM.
#[tokio::test(flavor = "multi_thread")]
async fn numbers_are_those_of_the_events() {
    let env = TestEnv::new("numbers").await;
    let tenant = Uuid::new_v4();
    let served = unlimited(&env).await;
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

/// A question that cannot be answered is a 400 that names the parameter.
#[tokio::test(flavor = "multi_thread")]
async fn invalid_questions_are_refused() {
    let env = TestEnv::new("sumbad").await;
    let served = unlimited(&env).await;
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
