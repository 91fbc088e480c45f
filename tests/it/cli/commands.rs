//! The command line, as a person or a script uses it.

use std::io::Write;
use std::process::{Output, Stdio};

use serde_json::Value;

use crate::env::{TestEnv, event, eventually};

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The demo proves itself: exit 0 only if every event is stored once and the queue is empty.
#[tokio::test(flavor = "multi_thread")]
async fn the_demo_stores_every_event_once() {
    let env = TestEnv::new("demo").await;
    let worker = env.worker().await;
    let output = env.command().arg("demo").output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let shown = text(&output);
    for part in [
        "enrichment_progress",
        "Timeline",
        "Final state",
        "\"status\": \"completed\"",
        "p50",
        "/metrics",
        "OK: ",
    ] {
        assert!(shown.contains(part), "{part} is missing in:\n{shown}");
    }
    let output = env.command().args(["demo", "--json"]).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(report["complete"], true);
    assert_eq!(report["types"]["enrichment_progress"]["stored"], 66);
    drop(worker);

    let output = env.command().args(["demo", "--timeout", "1"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("no worker consumes it"), "{}", text(&output));
}

/// Any BOM will do, and one without part numbers says what it has.
#[tokio::test(flavor = "multi_thread")]
async fn the_demo_reads_a_bom_file() {
    let env = TestEnv::new("bom").await;
    let _worker = env.worker().await;
    let folder = tempfile::tempdir().unwrap();
    let good = folder.path().join("good.csv");
    std::fs::write(&good, "Ref;Mfr Part #;Mfr\nU1;LM358DR;TI\nU2;NE555P;TI\n").unwrap();
    let output = env.command().args(["demo", "--json", "--bom"]).arg(&good).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    let bad = folder.path().join("bad.csv");
    std::fs::write(&bad, "Value,Footprint\n10k,0603\n").unwrap();
    let output = env.command().args(["demo", "--bom"]).arg(&bad).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("\"Value\", \"Footprint\""), "{}", text(&output));
}

/// One event from flags; JSON lines where a bad line is told by number and does not stop the rest.
#[tokio::test(flavor = "multi_thread")]
async fn publish_reads_flags_and_json_lines() {
    let env = TestEnv::new("publish").await;
    let _worker = env.worker().await;
    let flags = [
        "publish",
        "--type",
        "risk_alert",
        "--bom-id",
        "6f9619ff-8b86-4d01-b42d-00cf4fc964ff",
        "--organization-id",
        "org",
        "--payload",
        r#"{"component_id":"c","risk_score":91,"severity":"critical"}"#,
    ];
    let output = env.command().args(flags).output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    eventually("it is stored", async || env.rows().await == 1).await;
    let row =
        env.sql.query_one("select routing_key, length(event_id) from enrichment_events", &[]).await.unwrap();
    assert_eq!((row.get::<_, &str>(0), row.get::<_, i32>(1)), ("cns.risk.alert.critical", 36));

    let lines = format!("{}\nnot json\n\n{}\n", event("l1"), event("l2"));
    let run = |dry: bool| {
        let mut command = env.command();
        command.arg("publish").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        if dry {
            command.arg("--dry-run");
        }
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(lines.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    };
    let output = run(true);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("valid: 2, failed: 1"), "{}", text(&output));
    assert_eq!(env.rows().await, 1, "a dry run publishes nothing");
    let output = run(false);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("line 2: malformed_json"), "{}", text(&output));
    eventually("the good lines are stored", async || env.rows().await == 3).await;
}

/// Secrets are masked, problems are one line each, and each kind of failure has its exit code.
#[tokio::test(flavor = "multi_thread")]
async fn config_shows_and_checks_the_configuration() {
    let env = TestEnv::empty("config").await;
    let output = env
        .command()
        .args(["config"])
        .env("CNS_EVENTS__DATABASE__URL", "postgres://u:hunter2@h/d")
        .output()
        .unwrap();
    assert!(output.status.success());
    assert!(
        text(&output).contains("postgres://u:***@h/d") && !text(&output).contains("hunter2"),
        "{}",
        text(&output)
    );
    assert!(text(&output).contains("CNS_EVENTS__DATABASE__URL"), "it says where a value comes from");
    let output = env.command().args(["worker"]).env("CNS_EVENTS__WORKER__LANES", "0").output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    assert!(text(&output).contains("worker.lanes = 0: must be at least 1"), "{}", text(&output));
    assert_eq!(env.command().arg("nonsense").output().unwrap().status.code(), Some(2));
    let output = env.command().args(["completions", "bash"]).output().unwrap();
    assert!(text(&output).contains("complete"), "{}", text(&output));
    let output = env.command().args(["publish", "--dry-run", "--file", "/nonexistent"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
}

/// Prometheus' own checker has nothing to say about the metrics. It runs where promtool is installed.
#[tokio::test(flavor = "multi_thread")]
async fn metrics_of_a_worker_pass_promtool() {
    let env = TestEnv::new("promtool").await;
    let worker = env.worker().await;
    let (status, metrics) = worker.get("/metrics").unwrap();
    assert_eq!(status, 200);
    promtool_accepts(&metrics);
}

pub fn promtool_accepts(metrics: &str) {
    let checker = std::process::Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut checker) = checker else {
        eprintln!("promtool is not installed: not checked");
        return;
    };
    checker.stdin.take().unwrap().write_all(metrics.as_bytes()).unwrap();
    let output = checker.wait_with_output().unwrap();
    assert!(output.status.success() && text(&output).trim().is_empty(), "{}", text(&output));
}
