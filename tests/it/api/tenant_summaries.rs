//! No tenant ever sees anything of another's in what is made of summaries: over HTTP with every kind of token and cursor, and by SQL.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use uuid::Uuid;

use super::summaries::aggregate;
use super::tenants::{Rows, bad_tokens};
use crate::env::api_server::ApiServer;
use crate::env::tokens::{Issuer, claims};
use crate::env::{TestEnv, connect};

/// Of each tenant a risk alert, a stage and a part, each of which names the tenant.
async fn fill(env: &TestEnv) -> Rows {
    let rows = Rows::fill(env).await;
    for (number, tenant) in rows.tenants.iter().enumerate() {
        for of in [number, 3] {
            let insert = "insert into enrichment_events (event_id, event_type, bom_id, tenant_id, organization_id, source, workflow_id, \
                          payload) select gen_random_uuid(), kind, $1, $2::uuid, $2::uuid::text, 'customer', $3, jsonb_build_object('component_id', $2::uuid::text, \
                          'risk_score', 90, 'stage', $2::uuid::text, 'duration_ms', 5, 'mpn', $2::uuid::text, 'error_message', $2::uuid::text) \
                          from unnest(array['risk_alert', 'stage_completed', 'component_matched', 'error']) kind";
            env.sql.execute(insert, &[&rows.boms[of], tenant, &rows.workflows[of]]).await.unwrap();
        }
    }
    aggregate(env);
    rows
}

/// Returns every request about every tenant's rows.
fn questions(rows: &Rows) -> Vec<String> {
    let boms = rows.boms.iter().map(|bom| format!("/v1/boms/{bom}?"));
    let of_bom = rows.boms.iter().map(|bom| format!("/v1/workflows?bom={bom}&"));
    let workflows = rows.workflows.iter().flat_map(|workflow| {
        [
            format!("/v1/workflows/{workflow}?"),
            format!("/v1/workflows?q={workflow}&"),
            format!("/v1/workflows/{workflow}?at=2999-01-01T00:00:00Z&"),
        ]
    });
    let parts = rows.tenants.iter().flat_map(|tenant| {
        [format!("/v1/workflows?mpn={tenant}&"), format!("/v1/workflows?organization={tenant}&")]
    });
    let all =
        ["/v1/workflows?", "/v1/summary?", "/v1/summary?by=source&step=day&", "/v1/stages?", "/v1/risks?"];
    boms.chain(of_bom).chain(workflows).chain(parts).chain(all.map(str::to_owned)).collect()
}

/// Returns every UUID in an answer that is one of the tenants.
fn tenants_in(body: &Value, rows: &Rows) -> BTreeSet<Uuid> {
    let text = body.to_string();
    rows.tenants.into_iter().filter(|tenant| text.contains(&tenant.to_string())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn no_answer_made_of_summaries_has_another_tenants_rows() {
    let env = TestEnv::new("summatrix").await;
    let rows = fill(&env).await;
    let (login, url) = env.login("in role authenticated, cns_events_support").await;
    let issuer = Issuer::new();
    let served = ApiServer::start(&env, |command| {
        command.env("CNS_EVENTS__DATABASE__URL", &url).env("CNS_EVENTS__API__RATE_LIMIT", "0");
    })
    .await;
    let good = |tenant: Uuid| {
        let mut claims = claims(tenant);
        claims["iss"] = "https://issuer".into();
        claims
    };
    let cursors: Vec<String> = rows
        .tenants
        .iter()
        .map(|tenant| {
            let page = served.get("/v1/workflows?limit=1", &issuer.good("HS256", &good(*tenant)));
            page.json()["next_cursor"].as_str().unwrap().to_owned()
        })
        .collect();
    let (mut asked, mut seen) = (0, 0);
    for (number, tenant) in rows.tenants.iter().enumerate() {
        let mut nested = good(*tenant);
        nested.as_object_mut().unwrap().remove("tenant_id");
        nested["app_metadata"] = json!({"tenant_id": tenant});
        let mut both = good(*tenant);
        both["app_metadata"] = json!({"tenant_id": rows.tenants[(number + 1) % 3]});
        for claims in [good(*tenant), nested, both] {
            let token = issuer.good("HS256", &claims);
            for question in questions(&rows) {
                let pages = question.starts_with("/v1/workflows?").then_some(&cursors).into_iter().flatten();
                for rest in pages.map(|cursor| format!("cursor={cursor}&limit=1000")).chain([String::new()]) {
                    let path = format!("{question}{rest}");
                    let answer = served.get(&path, &token);
                    assert_eq!(answer.status, 200, "{path}");
                    let found = tenants_in(&answer.json(), &rows);
                    assert!(found.iter().all(|found| found == tenant), "{path}: {}", answer.json());
                    (asked, seen) = (asked + 1, seen + found.len());
                }
            }
            // Numbers are the tenant's own.
            let summary = served.get("/v1/summary", &token).json();
            assert_eq!(
                (&summary["totals"]["error"], &summary["totals"]["cache_hit"]),
                (&json!(22), &json!(60))
            );
            assert_eq!(summary["workflows"], json!({"running": 2}));
            let shared = served.get(&format!("/v1/boms/{}", rows.boms[3]), &token).json();
            assert_eq!((&shared["sums"]["events"], &shared["runs"][0]["events"]), (&json!(44), &json!(44)));
            let run = served.get("/v1/workflows/w-shared", &token).json();
            assert_eq!((run["runs"].as_array().unwrap().len(), &run["runs"][0]["events"]), (1, &json!(44)));
        }
    }
    let bad = bad_tokens(&issuer, rows.tenants[0], &good);
    for (why, token) in bad.iter().filter(|(why, _)| !why.contains("issuer")) {
        for path in ["/v1/workflows", "/v1/workflows/w-shared", "/v1/summary", "/v1/stages", "/v1/risks"] {
            let answer = served.get(path, token);
            // Keys of a file are not configured here, so that nothing that is signed with one is good.
            assert!(matches!(answer.status, 401 | 403), "{why}: {}", answer.status);
            assert!(tenants_in(&answer.json(), &rows).is_empty(), "{why}");
            asked += 1;
        }
    }
    println!("{asked} requests; {seen} answers with the reader's own id");
    assert!(asked > 700 && seen > 200, "{asked} {seen}");
    drop(served);
    env.drop_login(&login).await;
}

/// As `authenticated` with a tenant's claims, and with those of nobody: tables and views show the tenant's own rows alone.
#[tokio::test(flavor = "multi_thread")]
async fn no_sql_on_summaries_returns_another_tenants_rows() {
    let env = TestEnv::new("sumsql").await;
    let rows = fill(&env).await;
    let (login, url) = env.login("in role authenticated").await;
    let client = connect(&url).await;
    let tables = [
        "event_counts",
        "stage_times",
        "workflow_runs",
        "workflow_parts",
        "event_summaries",
        "workflow_summaries",
        "enrichment_journal",
    ];
    let own = rows.tenants.map(|tenant| (json!({"tenant_id": tenant}).to_string(), Some(tenant)));
    let nobody = ["", "{}", "null", r#"{"tenant_id": "x"}"#, r#"{"role": "cns_events_support"}"#];
    for (claims, tenant) in own.into_iter().chain(nobody.map(|claims| (claims.to_owned(), None))) {
        for table in tables {
            for sql in [
                format!("select tenant_id from {table}"),
                format!("select a.tenant_id from {table} a join {table} b on true"),
                format!("select tenant_id from {table} where tenant_id = '{}' or true", rows.tenants[1]),
            ] {
                client.batch_execute("begin; set local role authenticated").await.unwrap();
                client
                    .query_one("select set_config('request.jwt.claims', $1, true)", &[&claims])
                    .await
                    .unwrap();
                let found = client.query(sql.as_str(), &[]).await.unwrap();
                assert_eq!(found.is_empty(), tenant.is_none(), "{claims}: {sql}");
                assert!(found.iter().all(|row| Some(row.get::<_, Uuid>(0)) == tenant), "{claims}: {sql}");
                client.batch_execute("rollback").await.unwrap();
            }
            for write in [
                format!("delete from {table}"),
                format!("update {table} set tenant_id = tenant_id"),
                format!("truncate {table}"),
            ] {
                assert!(client.batch_execute(&write).await.is_err(), "{write}");
            }
        }
    }
    drop(client);
    env.drop_login(&login).await;
}
