//! Tables and texts of the commands that show something.

use crate::env::TestEnv;
use crate::env::snapshot::{assert_text, run};
use crate::env::{event, eventually};

/// Returns an event with a fixed time of 2001, which snapshots keep.
fn dated(id: &str, event_type: &str, payload: &str, second: u8) -> String {
    format!(
        r#"{{"event_id":"{id}","event_type":"{event_type}","bom_id":"6f9619ff-8b86-4d01-b42d-00cf4fc964ff","organization_id":"org-1","source":"customer","workflow_id":"w-1","state":{{"status":"running","current_stage":"enrichment","total_items":2,"completed_items":1,"failed_items":0,"percent":50}},"payload":{payload},"created_at":"2001-02-03T04:05:{second:02}Z"}}"#
    )
}

fn show(env: &TestEnv, name: &str, arguments: &[&str]) {
    assert_text("cli", name, Some(env), &run(env.command().args(arguments)));
}

#[tokio::test(flavor = "multi_thread")]
async fn query_tables_are_as_recorded() {
    let env = TestEnv::new("querytext").await;
    let worker = env.worker().await;
    env.publish_all(&[
        dated("a-1", "processing_started", r#"{"total_items":2}"#, 1),
        dated("a-2", "stage_started", r#"{"stage":"enrichment"}"#, 2),
        dated(
            "a-3",
            "enrichment_progress",
            r#"{"mpn":"LM358","status":"matched","confidence":0.9,"supplier":"Mouser"}"#,
            3,
        ),
        dated("a-4", "risk_alert", r#"{"component_id":"U1","risk_score":91,"severity":"critical"}"#, 4),
        dated("a-5", "stage_completed", r#"{"stage":"enrichment","duration_ms":1500}"#, 5),
        dated("a-6", "error", r#"{"error_message":"supplier timed out","error_code":"E42"}"#, 6),
        dated("a-7", "something_new", r#"{"a":1}"#, 7),
    ])
    .await;
    eventually("all are stored", async || env.rows().await == 7).await;
    show(&env, "query-bom", &["query", "bom", "6f9619ff-8b86-4d01-b42d-00cf4fc964ff", "--all-tenants"]);
    show(
        &env,
        "query-bom-json",
        &["query", "bom", "6f9619ff-8b86-4d01-b42d-00cf4fc964ff", "--all-tenants", "--limit", "1", "--json"],
    );
    show(&env, "query-workflow", &["query", "workflow", "w-1", "--all-tenants"]);
    show(&env, "query-nothing", &["query", "workflow", "unknown", "--all-tenants"]);
    // `query errors` shows the last hours only.
    let now = chrono::Utc::now().to_rfc3339();
    let error = dated("a-8", "error", r#"{"error_message":"supplier timed out","error_code":"E42"}"#, 8);
    env.publish(error.replace("2001-02-03T04:05:08Z", &now).as_bytes()).await;
    eventually("it is stored", async || env.rows().await == 8).await;
    drop(worker);
    show(&env, "query-errors", &["query", "errors", "--all-tenants"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letter_tables_are_as_recorded() {
    let env = TestEnv::new("dlqtext").await;
    let mut worker = env.worker().await;
    show(&env, "dlq-list-empty", &["dlq", "list"]);
    // One after the other: two lanes would dead-letter them in any order.
    env.publish(b"not json").await;
    eventually("it is a dead letter", async || env.depth(&env.dead_letter_queue()).await.0 == 1).await;
    env.publish(event("x").replace("6f9619ff-8b86", "zzzzzzzz-8b86").as_bytes()).await;
    eventually("both are dead letters", async || env.depth(&env.dead_letter_queue()).await.0 == 2).await;
    assert!(worker.terminate().await.success());
    show(&env, "dlq-list", &["dlq", "list"]);
    show(&env, "dlq-show", &["dlq", "show", "x"]);
    show(&env, "dlq-replay-dry-run", &["dlq", "replay", "--all", "--dry-run"]);
    show(&env, "dlq-purge-unconfirmed", &["dlq", "purge", "--reason", "malformed_json"]);
    show(&env, "dlq-replay", &["dlq", "replay", "--reason", "invalid_field"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn migrate_and_config_tables_are_as_recorded() {
    let env = TestEnv::empty("migratetext").await;
    show(&env, "migrate-status-pending", &["migrate", "--status"]);
    show(&env, "migrate", &["migrate"]);
    show(&env, "migrate-again", &["migrate"]);
    show(&env, "migrate-status", &["migrate", "--status"]);
    show(&env, "config", &["config"]);
    show(&env, "prune-nothing", &["prune", "--older-than", "2y"]);
}

/// Findings of `doctor` for states that an operator meets: nothing set up, a wrong queue, and a sound pool.
#[tokio::test(flavor = "multi_thread")]
async fn findings_of_doctor_are_as_recorded() {
    let env = TestEnv::empty("doctortext").await;
    show(&env, "doctor-nothing-set-up", &["doctor"]);
    env.declare_foreign_queue().await;
    show(&env, "doctor-other-queue-arguments", &["doctor"]);
    drop(env);
    let env = TestEnv::new("doctorsound").await;
    let _worker = env.worker().await;
    eventually("both lanes consume", async || env.depth(&env.queue()).await.1 == 2).await;
    show(&env, "doctor-sound", &["doctor"]);
    show(&env, "doctor-serve-without-keys", &["doctor", "serve"]);
}
