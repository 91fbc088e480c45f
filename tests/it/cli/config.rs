//! The configuration, and the exit codes of the command line.

use crate::env::{TestEnv, output_text as text};

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
    assert!(text(&output).contains("CNS_EVENTS__DATABASE__URL"), "the source of a value is shown");
    let output = env.command().args(["worker"]).env("CNS_EVENTS__WORKER__LANES", "0").output().unwrap();
    assert_eq!(output.status.code(), Some(78));
    assert!(text(&output).contains("worker.lanes = 0: must be at least 1"), "{}", text(&output));
    assert_eq!(env.command().arg("nonsense").output().unwrap().status.code(), Some(2));
    let output = env.command().args(["completions", "bash"]).output().unwrap();
    assert!(text(&output).contains("complete"), "{}", text(&output));
    let output = env.command().args(["publish", "--dry-run", "--file", "/nonexistent"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
}
