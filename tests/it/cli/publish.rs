//! `publish`, as an operator or a script uses it.

use std::io::Write;
use std::process::Stdio;

use crate::env::{TestEnv, event, eventually, output_text as text};

/// One event from flags; in JSON lines a bad line is reported by its number and does not stop the rest.
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
