//! Support staff: summaries of all tenants, events of the one that it names, and nothing without its role.

use serde_json::{Value, json};
use tokio_postgres::error::SqlState;
use uuid::Uuid;

use super::summaries::{aggregate, store};
use crate::env::api_server::ApiServer;
use crate::env::tokens::{Issuer, claims, token};
use crate::env::{TestEnv, connect};

/// A token of support staff; its own tenant, if it has one, does not matter.
pub fn support_token(tenant: Option<Uuid>) -> String {
    let mut claims = claims(Uuid::nil());
    claims["sub"] = json!("eve \"the helper\"\n");
    claims["app_metadata"] = json!({"cns_role": "support", "tenant_id": tenant});
    match tenant {
        Some(tenant) => claims["tenant_id"] = json!(tenant),
        None => drop(claims.as_object_mut().unwrap().remove("tenant_id")),
    }
    Issuer::new().good("HS256", &claims)
}

/// Every endpoint that needs a token, for one workflow.
fn endpoints() -> [String; 9] {
    let bom = Uuid::from_u128(0xb0);
    [
        "/v1/workflows".to_owned(),
        "/v1/summary?from=2026-03-01T00:00:00Z&to=2026-03-02T00:00:00Z".to_owned(),
        "/v1/stages?from=2026-03-01T00:00:00Z&to=2026-03-02T00:00:00Z".to_owned(),
        "/v1/workflows/w".to_owned(),
        "/v1/workflows/w/events".to_owned(),
        format!("/v1/boms/{bom}"),
        format!("/v1/boms/{bom}/events"),
        "/v1/errors?hours=8760".to_owned(),
        "/v1/risks?hours=8760".to_owned(),
    ]
}

fn with(path: &str, parameter: &str) -> String {
    format!("{path}{}{parameter}", if path.contains('?') { '&' } else { '?' })
}

async fn fill(env: &TestEnv) -> [Uuid; 2] {
    let tenants = [Uuid::new_v4(), Uuid::new_v4()];
    for tenant in tenants {
        let payload = json!({"stage": "parsing", "duration_ms": 10});
        store(env, tenant, "w", 0, "stage_completed", json!({}), payload).await;
        store(env, tenant, "w", 1, "error", json!({}), json!({})).await;
    }
    aggregate(env);
    tenants
}

/// Without a tenant the three of all tenants, with one everything as that tenant, which the log tells; other tokens name none.
#[tokio::test(flavor = "multi_thread")]
async fn support_staff_reads_summaries_of_all_tenants_and_events_of_one() {
    let env = TestEnv::new("support").await;
    let tenants = fill(&env).await;
    let (login, url) = env.login("in role authenticated, cns_events_support").await;
    let served = ApiServer::start(&env, |command| {
        command.env("CNS_EVENTS__DATABASE__URL", &url).env("CNS_EVENTS__API__RATE_LIMIT", "0");
    })
    .await;
    let get = |path: &str, token: &str| served.get(path, token);
    for support in [support_token(None), support_token(Some(tenants[0]))] {
        let [workflows, summary, stages] = ["/v1/workflows", &endpoints()[1], &endpoints()[2]].map(|path| {
            let answer = get(path, &support);
            assert_eq!(answer.status, 200, "{path}: {:?}", String::from_utf8_lossy(&answer.body));
            answer.json()
        });
        let seen = workflows["workflows"].as_array().unwrap().iter().map(|run| run["tenant_id"].to_string());
        assert_eq!(seen.collect::<std::collections::BTreeSet<_>>().len(), 2);
        assert_eq!(
            (&summary["totals"], &summary["workflows"]),
            (&json!({"error": 2, "stage_completed": 2}), &json!({"running": 2}))
        );
        assert_eq!(stages["stages"][0]["count"], 2);
        for path in &endpoints()[3..] {
            let refused = get(path, &support);
            assert_eq!(refused.status, 400, "{path}");
            assert!(refused.json()["detail"].as_str().unwrap().starts_with("tenant: is required"), "{path}");
        }
        // As one tenant: what that tenant sees itself.
        for (path, tenant) in endpoints().iter().flat_map(|path| tenants.map(|tenant| (path, tenant))) {
            let (own, asked) =
                (get(path, &token(tenant)), get(&with(path, &format!("tenant={tenant}")), &support));
            assert_eq!((own.status, asked.status), (200, 200), "{path}");
            assert_eq!(without_marks(own.json()), without_marks(asked.json()), "{path}");
        }
    }
    let log = served.process.log();
    let logged: Vec<Value> = log
        .lines()
        .filter(|line| line.contains("reads as a tenant"))
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(logged.len(), 2 * 9 * 2);
    let text = logged[0].to_string();
    assert!(
        text.contains("the helper")
            && text.contains(&tenants[0].to_string())
            && text.contains("/v1/workflows"),
        "{text}"
    );

    // Pages over all tenants: each run once.
    let (mut path, mut seen) = ("/v1/workflows?limit=1".to_owned(), Vec::new());
    loop {
        let page = get(&path, &support_token(None)).json();
        seen.extend(
            page["workflows"]
                .as_array()
                .unwrap()
                .iter()
                .map(|run| run["tenant_id"].as_str().unwrap().to_owned()),
        );
        let Some(next) = page["next_cursor"].as_str() else { break };
        path = format!("/v1/workflows?limit=1&cursor={next}");
    }
    seen.sort();
    assert_eq!(seen, {
        let mut both = tenants.map(|tenant| tenant.to_string());
        both.sort();
        both
    });

    for (path, parameter) in
        endpoints().iter().flat_map(|path| ["tenant=", "tenant=x", "%74enant=%2a"].map(|odd| (path, odd)))
    {
        let refused = get(&with(path, parameter), &support_token(None));
        assert_eq!(refused.status, 400, "{path}");
        assert!(refused.json()["detail"].as_str().unwrap().starts_with("tenant: is not a UUID"), "{path}");
    }
    for path in endpoints() {
        let [a, b] = tenants;
        let twice = get(&with(&path, &format!("tenant={a}&tenant={b}")), &support_token(None));
        assert_eq!(twice.status, 400, "{path}");
        // A tenant's token names no tenant, not even its own, however the role is told where users can write.
        let mut liar = claims(a);
        liar["user_metadata"] = json!({"cns_role": "support"});
        liar["cns_role"] = json!("support");
        liar["role"] = json!("cns_events_support");
        let mut other = claims(a);
        other["app_metadata"] = json!({"cns_role": "Support"});
        for (claims, tenant) in
            [liar, other].into_iter().flat_map(|claims| [a, b].map(|tenant| (claims.clone(), tenant)))
        {
            let token = Issuer::new().good("HS256", &claims);
            let refused = get(&with(&path, &format!("tenant={tenant}")), &token);
            assert_eq!(
                (refused.status, &refused.json()["type"]),
                (403, &json!("urn:cns-events:problem:forbidden")),
                "{path}"
            );
            assert!(!get(&path, &token).json().to_string().contains(&b.to_string()), "{path}");
        }
    }
    drop(served);
    env.drop_login(&login).await;
}

/// The answer without the time and the position that it is of.
fn without_marks(mut body: Value) -> Value {
    body.as_object_mut().unwrap().remove("as_of");
    body.as_object_mut().unwrap().remove("stream_cursor");
    body
}

/// Without the membership support is 403, also with a tenant, and tenants are answered; `doctor serve` tells the grant, which works.
#[tokio::test(flavor = "multi_thread")]
async fn support_staff_is_refused_where_the_login_has_no_such_role() {
    let env = TestEnv::new("nosupport").await;
    let [tenant, _] = fill(&env).await;
    let (login, url) = env.login("in role authenticated").await;
    let served = ApiServer::start(&env, |command| {
        command.env("CNS_EVENTS__DATABASE__URL", &url);
    })
    .await;
    let doctor = || {
        let mut command = env.command();
        let output = command
            .args(["doctor", "serve", "--json"])
            .env("CNS_EVENTS__DATABASE__URL", &url)
            .env("CNS_EVENTS__API__JWT_SECRET", crate::env::tokens::SECRET)
            .output()
            .unwrap();
        let checks: Value = serde_json::from_slice(&output.stdout).unwrap();
        checks.as_array().unwrap().iter().find(|check| check["check"] == "support staff").unwrap().clone()
    };
    let support = support_token(None);
    for path in endpoints() {
        let refused = served.get(&with(&path, &format!("tenant={tenant}")), &support);
        assert_eq!(refused.status, 403, "{path}");
        assert!(refused.json()["detail"].as_str().unwrap().contains("cns_events_support"), "{path}");
        assert_eq!(served.get(&path, &token(tenant)).status, 200, "{path}");
    }
    for path in &endpoints()[..3] {
        assert_eq!(served.get(path, &support).status, 403, "{path}");
    }
    let found = doctor()["found"].as_str().unwrap().to_owned();
    assert!(
        found.contains("get 403") && found.contains(&format!("grant cns_events_support to {login}")),
        "{found}"
    );
    env.sql.batch_execute(&format!("grant cns_events_support to {login}")).await.unwrap();
    assert_eq!(served.get("/v1/workflows", &support).status, 200);
    assert!(doctor()["found"].as_str().unwrap().contains("are answered"));
    drop(served);
    env.drop_login(&login).await;
}

/// By SQL: the role reads the summaries of all, and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn the_role_of_support_staff_reads_no_event() {
    let env = TestEnv::new("supportsql").await;
    fill(&env).await;
    let (login, url) = env.login("in role authenticated, cns_events_support").await;
    let client = connect(&url).await;
    for (sql, readable) in [
        ("select from workflow_runs", true),
        ("select from workflow_parts", true),
        ("select from event_counts", true),
        ("select from stage_times", true),
        ("select from event_summaries", true),
        ("select from workflow_summaries", true),
        ("select xact from enrichment_journal", false),
        ("select from enrichment_positions", true),
        ("select tenant_id from enrichment_journal", false),
        ("select ids from enrichment_journal", false),
        ("select * from enrichment_journal", false),
        ("select id from enrichment_events", false),
        ("select count(*) from enrichment_events", false),
        ("delete from workflow_runs", false),
        ("update event_counts set events = 0", false),
        ("insert into enrichment_positions select * from enrichment_positions", false),
        ("truncate stage_times", false),
    ] {
        client.batch_execute("begin; set local role cns_events_support").await.unwrap();
        match client.query(sql, &[]).await {
            Ok(rows) => assert!(
                readable
                    && (rows.len() > 1
                        || sql.contains("part")
                        || sql.contains("positions")
                        || sql.contains("stage")),
                "{sql}: {}",
                rows.len()
            ),
            Err(error) => assert!(
                !readable && error.code() == Some(&SqlState::INSUFFICIENT_PRIVILEGE),
                "{sql}: {error:?}"
            ),
        }
        client.batch_execute("rollback").await.unwrap();
    }
    // The membership alone shows nothing: the policies ask for the role itself.
    for sql in ["select from workflow_runs", "select from event_counts"] {
        assert!(client.query(sql, &[]).await.unwrap().is_empty(), "{sql}");
    }
    drop(client);
    env.drop_login(&login).await;
}

/// A token that `cns-events token` prints is accepted, for as long as it says.
#[tokio::test(flavor = "multi_thread")]
async fn tokens_of_the_command_line_are_accepted() {
    let env = TestEnv::new("clitoken").await;
    let [tenant, other] = fill(&env).await;
    let issuer = |command: &mut std::process::Command| {
        command
            .env("CNS_EVENTS__API__JWT_ISSUER", "https://issuer")
            .env("CNS_EVENTS__API__JWT_AUDIENCE", "readers")
            .env("CNS_EVENTS__API__JWT_SECRET", crate::env::tokens::SECRET);
    };
    let served = ApiServer::start(&env, issuer).await;
    let sign = |arguments: &[&str]| {
        let mut command = env.command();
        issuer(&mut command);
        let output = command.arg("token").args(arguments).output().unwrap();
        assert!(
            output.status.success() && output.stderr.is_empty(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let text = String::from_utf8(output.stdout).unwrap();
        text.strip_suffix('\n').unwrap().to_owned()
    };
    let own = sign(&["--tenant", &tenant.to_string(), "--ttl", "5m", "--sub", "a portal"]);
    let runs = served.get("/v1/workflows", &own).json()["workflows"].as_array().unwrap().clone();
    assert_eq!((runs.len(), runs[0]["tenant_id"].as_str().unwrap()), (1, tenant.to_string().as_str()));
    let support = sign(&["--support"]);
    assert_eq!(served.get("/v1/workflows", &support).json()["workflows"].as_array().unwrap().len(), 2);
    assert_eq!(served.get(&format!("/v1/workflows/w?tenant={other}"), &support).status, 200);
    let short = sign(&["--support", "--ttl", "1s"]);
    crate::env::eventually("it has expired", async || served.get("/v1/workflows", &short).status == 401)
        .await;

    let without = env.command().args(["token", "--support"]).output().unwrap();
    let error = String::from_utf8_lossy(&without.stderr).into_owned();
    assert_eq!((without.status.code(), without.stdout.len()), (Some(78), 0), "{error}");
    assert!(
        error.contains("api.jwt_secret is not set") && error.contains("CNS_EVENTS__API__JWT_SECRET_FILE"),
        "{error}"
    );
    for arguments in [
        &["token"][..],
        &["token", "--support", "--tenant", "x"],
        &["token", "--support", "--ttl", "0s"],
        &["token", "--support", "--ttl", "5"],
    ] {
        assert_eq!(env.command().args(arguments).output().unwrap().status.code(), Some(2), "{arguments:?}");
    }
}
