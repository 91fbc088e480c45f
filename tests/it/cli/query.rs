//! `cns-events query`, as support staff and operators use it.

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::env::{TestEnv, event, eventually};

const BOM: &str = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff";

fn query(env: &TestEnv, arguments: &[&str]) -> Output {
    env.command().arg("query").args(arguments).output().unwrap()
}

fn said(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

/// A whole workflow in words, page by page, as JSON, and its state at the end.
#[tokio::test(flavor = "multi_thread")]
async fn query_workflow_shows_a_workflow() {
    let env = TestEnv::new("told").await;
    let _worker = env.worker().await;
    let demo = env.command().args(["demo", "--json"]).output().unwrap();
    let demo: Value = serde_json::from_slice(&demo.stdout).unwrap();
    let bom = demo["bom_id"].as_str().unwrap();
    let (workflow, own) = (format!("enrich-bom-{bom}"), ["--organization", "demo-organization"]);
    let with = |arguments: &[&str]| query(&env, &[arguments, &own].concat());

    let (out, err) = said(&with(&["workflow", &workflow, "--limit", "3"]));
    assert!(out.starts_with("time (UTC)") && out.contains("risk_analysis took 950 ms: alerts"), "{out}");
    for line in [
        "status     completed",
        "stage      risk_analysis",
        "progress   63 of 66 items (100 %), 3 failed",
        "took       enrichment: 4.2 s",
    ] {
        assert!(out.contains(line), "{line}: {out}");
    }
    assert!(!out.contains('{'), "words, not JSON: {out}");
    let cursor = err.split("--cursor ").nth(1).unwrap().split(' ').next().unwrap();
    let (rest, err) = said(&with(&["workflow", &workflow, "--limit", "1000", "--cursor", cursor, "--json"]));
    let lines: Vec<Value> = rest.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((lines.len(), err.as_str()), (161 - 3 + 1, ""));
    assert_eq!(lines.last().unwrap()["workflow"]["events"], 161, "the state is told by all of them");
    assert!(lines[0]["payload"].is_object() && lines[0]["created_at"].is_string());

    let (all, _) = said(&with(&["bom", bom, "--all", "--json"]));
    assert_eq!(all.lines().count(), 161);
    let (errors, _) = said(&with(&["errors"]));
    assert!(errors.contains("price lookup timed out") && errors.contains(bom), "{errors}");
    let (some, _) = said(&with(&["bom", bom, "--type", "error,workflow_paused", "--json"]));
    assert_eq!(some.lines().count(), 2);
    let (plan, _) = said(&with(&["bom", bom, "--explain"]));
    assert!(plan.contains("Limit"), "{plan}");

    // Whose it is not, is told nothing; an operator is told everything.
    let (out, err) = said(&query(&env, &["bom", bom, "--tenant", BOM]));
    assert!(out.is_empty() && err.contains("no such events"), "{out}{err}");
    let (out, _) = said(&query(&env, &["errors", "--all-tenants", "--json"]));
    assert_eq!(out.lines().count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn query_refuses_invalid_arguments() {
    let env = TestEnv::new("unasked").await;
    for (arguments, code, words) in [
        (&["errors"][..], 2, "--tenant <UUID>|--organization <ID>|--all-tenants"),
        (&["bom", "x", "--all-tenants"], 2, "invalid value 'x'"),
        (&["bom", BOM, "--all-tenants", "--tenant", BOM], 2, "cannot be used with"),
        (&["bom", BOM, "--organization", "o", "--tenant", BOM], 2, "leave out --tenant"),
        (&["bom", BOM, "--all-tenants", "--limit", "1001"], 2, "1001 is not in 1..=1000"),
        (&["errors", "--all-tenants", "--hours", "0"], 2, "0 is not in 1..=8760"),
        (&["errors", "--all-tenants", "--cursor", "x"], 2, "is not a cursor"),
        (&["workflow", &"x".repeat(256), "--all-tenants"], 2, "workflow_id: is longer"),
    ] {
        let output = query(&env, arguments);
        let (_, err) = said(&output);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {err}");
        assert!(err.contains(words), "{arguments:?}: {err}");
    }
    let (login, url) = env.login("in role service_role").await;
    let asked = |whose: &[&str]| {
        let mut command = env.command();
        let output = command
            .env("CNS_EVENTS__DATABASE__URL", &url)
            .args(["query", "errors"])
            .args(whose)
            .output()
            .unwrap();
        (output.status.code(), said(&output).1)
    };
    let (code, err) = asked(&["--tenant", BOM]);
    assert!(code == Some(1) && err.contains("grant authenticated to"), "{err}");
    env.sql.batch_execute(&format!("grant authenticated to {login}")).await.unwrap();
    assert_eq!(asked(&["--tenant", BOM]).0, Some(0));
    let (code, err) = asked(&["--all-tenants"]);
    assert!(code == Some(1) && err.contains("bypassrls"), "{err}");
    env.drop_login(&login).await;
}

/// `--follow` shows what is there and then what comes, survives an outage of the database, and ends by Ctrl-C.
#[tokio::test(flavor = "multi_thread")]
async fn query_follow_shows_new_events() {
    let env = TestEnv::new("follow").await;
    let _worker = env.worker().await;
    env.publish(event("first").as_bytes()).await;
    eventually("it is stored", async || env.rows().await == 1).await;
    let relay = crate::env::relay::Relay::before(&env.database_url).await;
    relay.open().await;
    let mut following = follow(&env, &relay.url(&env.database_url));
    let mut lines = BufReader::new(following.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut next = || serde_json::from_str::<Value>(&lines.next().unwrap()).unwrap();
    assert_eq!(next()["event_id"], "first");
    env.publish(event("second").as_bytes()).await;
    assert_eq!(next()["event_id"], "second");
    relay.cut();
    env.publish(event("third").as_bytes()).await;
    eventually("it is stored", async || env.rows().await == 3).await;
    relay.open().await;
    assert_eq!(next()["event_id"], "third");
    Command::new("kill").args(["-INT", &following.id().to_string()]).status().unwrap();
    assert_eq!(next()["workflow"]["events"], 3);
    assert!(following.wait().unwrap().success());
}

fn follow(env: &TestEnv, url: &str) -> std::process::Child {
    let mut command = env.command();
    command.args(["query", "workflow", "w-1", "--organization", "org-1", "--follow", "--json"]);
    command
        .env("CNS_EVENTS__DATABASE__URL", url)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}
