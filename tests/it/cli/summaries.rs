//! `cns-events query workflows` and `query summary`, as support staff and operators use them.

use std::process::Output;

use serde_json::Value;
use uuid::Uuid;

use crate::env::TestEnv;
use crate::env::snapshot::{assert_text, run};

/// Workflows of two tenants of fixed ids and times.
const FILL: &str = "
    insert into enrichment_events (event_id, event_type, bom_id, tenant_id, organization_id, source, workflow_id, state, payload, created_at)
    select gen_random_uuid(), (array['processing_started', 'error', 'risk_alert', 'enrichment_progress'])[1 + n % 4],
        ('00000000-0000-4000-8000-0000000000b' || n % 3)::uuid, ('00000000-0000-4000-8000-00000000000' || n % 2)::uuid, 'org-' || n % 3,
        'customer', 'enrich-' || n % 6, jsonb_build_object('status', (array['running', 'completed'])[1 + n % 2], 'current_stage', 'parsing', 'percent', n,
        'total_items', 66, 'completed_items', n), jsonb_build_object('mpn', 'LM' || n, 'risk_score', 90),
        '2001-03-01 10:00:00+00'::timestamptz + n * interval '7 minutes' from generate_series(1, 24) n";

const TENANT: &str = "00000000-0000-4000-8000-000000000001";

fn query(env: &TestEnv, arguments: &[&str]) -> Output {
    env.command().arg("query").args(arguments).output().unwrap()
}

fn lines(output: &Output) -> Vec<Value> {
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn workflows_and_numbers_are_printed_as_recorded() {
    let env = TestEnv::new("querysums").await;
    env.sql.batch_execute(FILL).await.unwrap();
    let day = ["--from", "2001-03-01T00:00:00Z", "--to", "2001-03-02T00:00:00Z"];
    let mut text = run(env.command().args(["query", "workflows", "--tenant", TENANT]));
    assert!(env.command().args(["aggregate", "--once"]).output().unwrap().status.success());
    for arguments in [
        &["workflows", "--tenant", TENANT][..],
        &["workflows", "--all-tenants", "--status", "stalled", "--limit", "2"],
        &["workflows", "--all-tenants", "--organization", "org-1", "--mpn", "LM7"],
        &["workflows", "--tenant", TENANT, "--starts-with", "x"],
        &[&["summary", "--tenant", TENANT], &day[..]].concat(),
        &[&["summary", "--all-tenants", "--step", "day", "--by", "source"], &day[..]].concat(),
        &["summary", "--tenant", TENANT, "--step", "week"],
        &["summary", "--tenant", TENANT, "--from", "2000-03-01T00:00:00Z", "--to", "2001-03-01T00:00:00Z"],
        &["summary", "--tenant", TENANT, "--organization", "org-1"],
    ] {
        text.push_str(&run(env.command().arg("query").args(arguments)));
    }
    assert_text("cli", "query_summaries", Some(&env), &text);
}

/// JSON lines, pages by cursor, and a login that is no more than support staff's.
#[tokio::test(flavor = "multi_thread")]
async fn summaries_are_printed_as_json_page_by_page() {
    let env = TestEnv::new("querysumjson").await;
    env.sql.batch_execute(FILL).await.unwrap();
    assert!(env.command().args(["aggregate", "--once"]).output().unwrap().status.success());
    let all = lines(&query(&env, &["workflows", "--all-tenants", "--json"]));
    assert_eq!(all.len(), 6);
    let (mut seen, mut cursor) = (Vec::new(), Vec::new());
    loop {
        let arguments = ["workflows", "--all-tenants", "--json", "--limit", "4"].map(str::to_owned);
        let arguments: Vec<String> = arguments.into_iter().chain(cursor).collect();
        let output = query(&env, &arguments.iter().map(String::as_str).collect::<Vec<_>>());
        seen.extend(lines(&output));
        let notes = String::from_utf8_lossy(&output.stderr).into_owned();
        let Some((_, rest)) = notes.split_once("--cursor ") else { break };
        cursor = vec!["--cursor".to_owned(), rest.split(' ').next().unwrap().to_owned()];
    }
    assert_eq!(seen, all);
    let summary = query(
        &env,
        &[
            "summary",
            "--tenant",
            TENANT,
            "--from",
            "2001-03-01T00:00:00Z",
            "--to",
            "2001-03-02T00:00:00Z",
            "--json",
        ],
    );
    let summary: Value = serde_json::from_slice(&summary.stdout).unwrap();
    assert_eq!(
        (&summary["totals"]["error"], &summary["workflows"]["completed"]),
        (&Value::from(6), &Value::from(3))
    );

    let (login, url) = env.login("in role authenticated").await;
    let asked = |arguments: &[&str]| {
        let mut command = env.command();
        let output =
            command.env("CNS_EVENTS__DATABASE__URL", &url).arg("query").args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(asked(&["workflows", "--tenant", TENANT]).0, Some(0));
    let (code, error) = asked(&["workflows", "--all-tenants"]);
    assert!(code == Some(1) && error.contains("hint: grant cns_events_support to"), "{error}");
    env.sql.batch_execute(&format!("grant cns_events_support to {login}")).await.unwrap();
    assert_eq!(asked(&["workflows", "--all-tenants"]).0, Some(0));
    assert_eq!(asked(&["summary", "--all-tenants"]).0, Some(0));
    assert_eq!(asked(&["errors", "--all-tenants"]).0, Some(1), "events need more");
    let nobody = Uuid::new_v4().to_string();
    assert_eq!(lines(&query(&env, &["workflows", "--tenant", &nobody, "--json"])).len(), 0);
    env.drop_login(&login).await;
}
