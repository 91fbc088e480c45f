//! The demonstration of a whole workflow.

use serde_json::Value;

use crate::env::{TestEnv, output_text as text};

/// Exit code 0 means that every event is stored once and the queue is empty.
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
    assert!(text(&output).contains("hint: start a worker"), "{}", text(&output));
}

/// A database that is not set up is an error with its fix.
#[tokio::test(flavor = "multi_thread")]
async fn the_demo_needs_the_table() {
    let env = TestEnv::empty("demoempty").await;
    let output = env.command().arg("demo").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("hint: run `cns-events migrate`"), "{}", text(&output));
}

/// A BOM without part numbers is refused with the names of its columns.
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
