//! The publisher as a producer uses it, with the real broker.

use std::sync::Arc;
use std::time::{Duration, Instant};

use cns_events::event::payload::{MatchStatus, Severity};
use cns_events::event::{Source, WorkflowState, tenant_of};
use cns_events::publisher::{Publisher, PublisherConfig, SpoolWhen, WorkflowPublisher};
use lapin::options::BasicGetOptions;
use uuid::Uuid;

use crate::env::{TIMEOUT, TestEnv, amqp_url, eventually, header_of};

impl TestEnv {
    pub fn publisher_config(&self, url: &str) -> PublisherConfig {
        PublisherConfig::new(url, "test").exchange(self.exchange())
    }

    pub fn publisher(&self) -> Publisher {
        Publisher::start(self.publisher_config(&amqp_url())).unwrap()
    }

    /// The numbers of the events in the queue, without those that came again.
    pub async fn drained(&self) -> Vec<usize> {
        let mut numbers = Vec::new();
        let taken = BasicGetOptions { no_ack: true };
        while let Some(message) = self.channel.basic_get(self.queue().into(), taken).await.unwrap() {
            let id = message.properties.message_id().clone().unwrap();
            let number = id.as_str().strip_prefix("e-").unwrap().parse().unwrap();
            if !numbers.contains(&number) {
                numbers.push(number);
            }
        }
        numbers
    }
}

pub fn workflow(publisher: &Publisher) -> WorkflowPublisher {
    publisher.workflow(Uuid::now_v7(), "org-1", "w-1")
}

/// Logs events e-0, e-1, … of a range.
pub fn log_numbered(workflow: &WorkflowPublisher, range: std::ops::Range<usize>) {
    for number in range {
        workflow.log_cache_hit("parts", format!("part {number}")).event_id(format!("e-{number}"));
    }
}

/// Every method of the original logger and the newer types, with all they may have, arrive as the contract has them.
#[tokio::test(flavor = "multi_thread")]
async fn a_workflows_whole_life_is_stored() {
    let env = TestEnv::new("life").await;
    let worker = env.worker().await;
    let publisher = env.publisher();
    let (bom_id, project, user, other) = (Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7(), Uuid::now_v7());
    let mut workflow =
        publisher.workflow(bom_id, "org-7", "w-7").project(project).user(user).source(Source::Staff);
    workflow.log_processing_started(2).message("board.csv");
    workflow.set_state(&WorkflowState::running(2, 1, 0));
    workflow.log_stage_started("enrichment");
    workflow.log_cache_miss("parts", "LM358DR");
    workflow.log_api_call("DigiKey", "/search").status_code(200).duration(Duration::from_micros(1500));
    workflow.log_component_matched("LM358", "LM358DR").manufacturer("TI").confidence(0.9).supplier("DigiKey");
    workflow
        .log_enrichment_progress("LM358", MatchStatus::Matched)
        .confidence(0.97)
        .supplier("DigiKey")
        .match_details(&serde_json::json!({ "lifecycle": "active" }));
    workflow.log_cache_hit("parts", "NE555");
    workflow.log_workflow_paused("quota").user(other);
    workflow.log_workflow_resumed("quota raised");
    workflow.log_error("timed out").code("E1").details(&serde_json::json!({ "tries": 3 }));
    workflow
        .log_stage_completed("enrichment", Duration::from_millis(1200))
        .metrics(&serde_json::json!({ "matched": 1 }));
    workflow.log_risk_alert("LM358", 80.0).risk_factors(&["single source"]);
    workflow
        .log_risk_alert("NE555", 10.0)
        .severity(Severity::High)
        .state(&serde_json::json!({ "percent": 99 }));
    workflow.log("price_changed", &serde_json::json!({ "mpn": "LM358" })).event_id("activity-1/price");
    workflow.log("price_changed", &serde_json::json!({ "mpn": "LM358" })).event_id("activity-1/price");
    // What cannot be stored is counted and does not reach anybody.
    workflow.log_error("NUL \0");
    workflow.log("no_object", &[1, 2]);
    workflow.log_cache_hit("parts", "x").routing_key("elsewhere.x");
    workflow.log_risk_alert("LM358", f64::NAN);
    // What breaks its schema is published, as the worker stores it.
    workflow.log_enrichment_progress("X", MatchStatus::Error).confidence(7.0);

    let closed = publisher.close(Duration::from_secs(30)).await;
    assert_eq!((closed.confirmed, closed.left), (16, 0), "{:?}", publisher.stats());
    assert_eq!((publisher.stats().invalid, publisher.stats().violations), (4, 1));
    eventually("15 events are stored", async || env.rows().await == 15).await;

    let row = async |sql: &str| env.sql.query_one(sql, &[]).await.unwrap();
    let row_1 = row("select bom_id, tenant_id, organization_id, project_id, user_id, source, workflow_id, state::text, payload::text
        from enrichment_events where event_type = 'enrichment_progress' and payload->>'mpn' = 'LM358'").await;
    assert_eq!(row_1.get::<_, Uuid>(0), bom_id);
    assert_eq!(row_1.get::<_, Uuid>(1), tenant_of("org-7"));
    assert_eq!(
        (row_1.get::<_, &str>(2), row_1.get::<_, &str>(5), row_1.get::<_, &str>(6)),
        ("org-7", "staff", "w-7")
    );
    assert_eq!((row_1.get::<_, Uuid>(3), row_1.get::<_, Uuid>(4)), (project, user));
    assert!(row_1.get::<_, &str>(7).contains(r#""percent": 50"#), "{}", row_1.get::<_, &str>(7));
    assert!(row_1.get::<_, &str>(8).contains(r#""match_details": {"lifecycle": "active"}"#));
    let keys = env
        .sql
        .query("select distinct event_type || ' ' || routing_key from enrichment_events order by 1", &[])
        .await
        .unwrap();
    let keys: Vec<String> = keys.iter().map(|row| row.get(0)).collect();
    assert_eq!(
        keys,
        [
            "api_call_made cns.api.call",
            "cache_hit cns.cache.hit",
            "cache_miss cns.cache.miss",
            "component_matched cns.component.matched",
            "enrichment_progress cns.enrichment.progress",
            "error cns.error",
            "price_changed cns.price.changed",
            "processing_started cns.processing.started",
            "risk_alert cns.risk.alert.critical",
            "risk_alert cns.risk.alert.high",
            "stage_completed cns.stage.enrichment.completed",
            "stage_started cns.stage.enrichment.started",
            "workflow_paused cns.workflow.paused",
            "workflow_resumed cns.workflow.resumed",
        ]
    );
    let paused = row("select user_id from enrichment_events where event_type = 'workflow_paused'").await;
    assert_eq!(paused.get::<_, Uuid>(0), other);
    assert_eq!(worker.metric_value("cns_events_duplicates_total"), 1.0);
    assert_eq!(
        worker.metric_value(r#"cns_events_schema_violations_total{event_type="enrichment_progress"}"#),
        1.0
    );
}

/// On the wire: persistent, with the priority of its type, and the trace it belongs to.
#[tokio::test(flavor = "multi_thread")]
async fn messages_have_the_properties_of_the_contract() {
    let env = TestEnv::empty("properties").await;
    env.declare_foreign_queue().await;
    let publisher = env.publisher();
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    workflow(&publisher).log_risk_alert("C1", 91.0).event_id("id-1").traceparent(trace);
    assert_eq!(publisher.flush(Duration::from_secs(30)).await.left, 0);
    let message =
        env.channel.basic_get(env.queue().into(), BasicGetOptions::default()).await.unwrap().unwrap();
    let of = &message.properties;
    assert_eq!(message.routing_key.as_str(), "cns.risk.alert.critical");
    assert_eq!((of.delivery_mode(), of.priority()), (&Some(2), &Some(8)));
    assert_eq!(of.content_type().as_ref().unwrap().as_str(), "application/json");
    assert_eq!(of.message_id().as_ref().unwrap().as_str(), "id-1");
    assert_eq!(of.kind().as_ref().unwrap().as_str(), "risk_alert");
    assert_eq!(of.app_id().as_ref().unwrap().as_str(), "test");
    assert!(of.timestamp().is_some());
    assert_eq!(header_of(of, "traceparent").as_deref(), Some(trace));
}

/// The worker's log says which trace a dead letter belongs to.
#[tokio::test(flavor = "multi_thread")]
async fn the_trace_reaches_the_workers_log() {
    let env = TestEnv::new("trace").await;
    let worker = env.start(|command| {
        command.env("CNS_EVENTS__VALIDATION__PAYLOAD", "reject");
    });
    worker.ready().await;
    let publisher = env.publisher();
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    workflow(&publisher).log("cache_hit", &serde_json::json!({ "cache": 1 })).traceparent(trace);
    eventually("it is dead-lettered", async || worker.log().contains("dead-lettered")).await;
    assert!(worker.log().contains(trace), "{}", worker.log());
}

/// Dropping the last handle does not hang, and what was logged still arrives.
#[tokio::test(flavor = "multi_thread")]
async fn dropping_the_last_handle_does_not_hang() {
    let env = TestEnv::empty("dropped").await;
    env.declare_foreign_queue().await;
    let publisher = env.publisher();
    log_numbered(&workflow(&publisher), 0..1000);
    let started = Instant::now();
    drop(publisher);
    assert!(started.elapsed() < Duration::from_secs(1));
    eventually("they are in the queue", async || env.depth(&env.queue()).await.0 == 1000).await;
}

/// An invalid configuration is reported at start, without the password.
#[test]
fn a_configuration_that_cannot_work_is_refused_at_start() {
    let error = |config| Publisher::start(config).unwrap_err().to_string();
    assert!(error(PublisherConfig::new("http://u:hunter2@h", "a")).contains("amqp://"));
    assert!(!error(PublisherConfig::new("http://u:hunter2@h", "a")).contains("hunter2"));
    assert!(error(PublisherConfig::new(amqp_url(), "a".repeat(256))).contains("app_id has more than 255"));
    assert!(error(PublisherConfig::new(amqp_url(), "a").spool("/proc/none")).contains("/proc/none"));
    assert!(
        error(PublisherConfig::new(amqp_url(), "a").spool_when(SpoolWhen::Always)).contains("spool folder")
    );
    assert!(error(PublisherConfig::new(amqp_url(), "a").buffer(10, 1000)).contains("1000 bytes"));
}

/// Handles are used from many threads at once, inside a runtime and outside of one.
#[test]
fn many_threads_share_a_publisher() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let env = runtime.block_on(async {
        let env = TestEnv::empty("threads").await;
        env.declare_foreign_queue().await;
        Arc::new(env)
    });
    let publisher = env.publisher();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let workflow = workflow(&publisher);
            scope.spawn(move || log_numbered(&workflow, thread * 100..(thread + 1) * 100));
        }
    });
    let closed = publisher.close_blocking(TIMEOUT);
    assert_eq!((closed.confirmed, closed.left), (800, 0));
    let mut arrived = runtime.block_on(env.drained());
    arrived.sort_unstable();
    assert_eq!(arrived, (0..800).collect::<Vec<_>>());
    let _inside = runtime.enter();
    drop(env);
}
