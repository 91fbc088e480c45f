//! The publisher as a producer uses it: real broker, real outages, real kills.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use cns_events::event::payload::{MatchStatus, Severity};
use cns_events::event::{Source, WorkflowState, tenant_of};
use cns_events::publisher::{NotLogged, Publisher, PublisherConfig, SpoolWhen, WorkflowPublisher};
use lapin::options::{BasicGetOptions, QueueBindOptions, QueueDeclareOptions, QueuePurgeOptions};
use lapin::types::{AMQPValue, FieldTable};
use uuid::Uuid;

use crate::relay::Relay;
use crate::stand::{PATIENCE, Stand, amqp_url, header_of, until};

impl Stand {
    fn publisher_config(&self, url: &str) -> PublisherConfig {
        PublisherConfig::new(url, "test").exchange(self.exchange())
    }

    fn publisher(&self) -> Publisher {
        Publisher::start(self.publisher_config(&amqp_url())).unwrap()
    }
}

fn workflow(publisher: &Publisher) -> WorkflowPublisher {
    publisher.workflow(Uuid::now_v7(), "org-1", "w-1")
}

/// Logs events e-0, e-1, … of a range.
fn log_numbered(workflow: &WorkflowPublisher, range: std::ops::Range<usize>) {
    for number in range {
        workflow.log_cache_hit("parts", format!("part {number}")).event_id(format!("e-{number}"));
    }
}

/// Every method of the original logger and the newer types, with all they may have, arrive as the contract has them.
#[tokio::test(flavor = "multi_thread")]
async fn a_workflows_whole_life_is_stored() {
    let stand = Stand::new("life").await;
    let worker = stand.worker().await;
    let publisher = stand.publisher();
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
    until("15 events are stored", async || stand.rows().await == 15).await;

    let row = async |sql: &str| stand.sql.query_one(sql, &[]).await.unwrap();
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
    let keys = stand
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
    assert_eq!(worker.metric("cns_events_duplicates_total"), 1.0);
    assert_eq!(worker.metric(r#"cns_events_schema_violations_total{event_type="enrichment_progress"}"#), 1.0);
}

/// On the wire: persistent, with the priority of its type, and the trace it belongs to.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_has_the_properties_of_the_contract() {
    let stand = Stand::empty("properties").await;
    stand.foreign_queue().await;
    let publisher = stand.publisher();
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    workflow(&publisher).log_risk_alert("C1", 91.0).event_id("id-1").traceparent(trace);
    assert_eq!(publisher.flush(Duration::from_secs(30)).await.left, 0);
    let message =
        stand.channel.basic_get(stand.queue().into(), BasicGetOptions::default()).await.unwrap().unwrap();
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
    let stand = Stand::new("trace").await;
    let worker = stand.start(|command| {
        command.env("CNS_EVENTS__VALIDATION__PAYLOAD", "reject");
    });
    worker.ready().await;
    let publisher = stand.publisher();
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    workflow(&publisher).log("cache_hit", &serde_json::json!({ "cache": 1 })).traceparent(trace);
    until("it is dead-lettered", async || worker.log().contains("dead-lettered")).await;
    assert!(worker.log().contains(trace), "{}", worker.log());
}

/// The broker is away when the producer starts, comes, goes again and comes back: every event arrives, in order.
#[tokio::test(flavor = "multi_thread")]
async fn outages_are_waited_out_in_order() {
    let stand = Stand::empty("outage").await;
    stand.foreign_queue().await;
    let relay = Relay::before(&amqp_url()).await;
    let publisher = Publisher::start(stand.publisher_config(&relay.url(&amqp_url()))).unwrap();
    let workflow = workflow(&publisher);
    log_numbered(&workflow, 0..500);
    until("the publisher says that the broker is away", async || {
        publisher.outage().is_some_and(|why| why.contains("refused"))
    })
    .await;
    assert!(!publisher.stats().connected);
    relay.open().await;
    until("the first are confirmed", async || publisher.stats().confirmed == 500).await;
    relay.cut();
    log_numbered(&workflow, 500..1000);
    until("the outage is seen", async || publisher.outage().is_some()).await;
    relay.open().await;
    log_numbered(&workflow, 1000..1500);
    assert_eq!(publisher.flush(PATIENCE).await.left, 0);
    assert_eq!(stand.drained().await, (0..1500).collect::<Vec<_>>());
    assert!(publisher.outage().is_none());
}

impl Stand {
    /// The numbers of the events in the queue, without those that came again.
    async fn drained(&self) -> Vec<usize> {
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

/// A producer that was deployed before the first worker: no queue takes its messages yet.
#[tokio::test(flavor = "multi_thread")]
async fn what_no_queue_takes_is_kept_and_sent_again() {
    let stand = Stand::new("unroutable").await;
    let publisher = stand.publisher();
    log_numbered(&workflow(&publisher), 0..200);
    until("messages came back", async || publisher.stats().returned >= 2).await;
    until("it says why", async || publisher.outage().is_some_and(|why| why.contains("no queue"))).await;
    let stats = publisher.stats();
    assert_eq!((stats.confirmed, stats.left()), (0, 200), "a returned message is not confirmed");
    let _worker = stand.worker().await;
    assert_eq!(publisher.flush(PATIENCE).await.confirmed, 200);
    until("all are stored", async || stand.rows().await == 200).await;
    assert!(publisher.stats().resent >= publisher.stats().returned);
}

/// Among messages that a queue takes, those that none takes are told apart, however the broker puts its confirms together.
#[tokio::test(flavor = "multi_thread")]
async fn one_unroutable_key_does_not_hold_up_the_others() {
    let stand = Stand::empty("mixed").await;
    stand.foreign_queue().await;
    let unbind = stand.channel.queue_unbind(
        stand.queue().into(),
        stand.exchange().into(),
        "cns.#".into(),
        FieldTable::default(),
    );
    unbind.await.unwrap();
    let bind = |key: &'static str| {
        stand.channel.queue_bind(
            stand.queue().into(),
            stand.exchange().into(),
            key.into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        )
    };
    bind("cns.cache.hit").await.unwrap();
    let publisher = stand.publisher();
    let workflow = workflow(&publisher);
    for number in 0..1000 {
        if number % 100 == 99 {
            workflow.log_error("nobody listens").event_id(format!("e-{number}"));
        } else {
            log_numbered(&workflow, number..number + 1);
        }
    }
    until("the others are confirmed, and these have come back", async || {
        let stats = publisher.stats();
        stats.confirmed >= 990 && stats.returned >= 10
    })
    .await;
    assert_eq!(publisher.stats().confirmed, 990);
    bind("cns.error").await.unwrap();
    assert_eq!(publisher.flush(PATIENCE).await.left, 0);
    let mut arrived = stand.drained().await;
    arrived.sort_unstable();
    assert_eq!(arrived, (0..1000).collect::<Vec<_>>());
}

/// A queue that refuses messages (nack) gets them again.
#[tokio::test(flavor = "multi_thread")]
async fn what_the_broker_refuses_is_sent_again() {
    let stand = Stand::empty("nack").await;
    let publisher = stand.publisher();
    until("the exchange is there", async || publisher.stats().connected).await;
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongInt(5));
    arguments.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    stand.channel.queue_declare(stand.queue().into(), durable, arguments).await.unwrap();
    let bound = stand.channel.queue_bind(
        stand.queue().into(),
        stand.exchange().into(),
        "cns.#".into(),
        QueueBindOptions::default(),
        FieldTable::default(),
    );
    bound.await.unwrap();
    log_numbered(&workflow(&publisher), 0..30);
    let mut arrived = Vec::new();
    let deadline = Instant::now() + PATIENCE;
    while arrived.len() < 30 {
        assert!(Instant::now() < deadline, "{:?}", publisher.stats());
        for number in stand.drained().await {
            if !arrived.contains(&number) {
                arrived.push(number);
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await; // the broker is asked, which sends no signal
    }
    assert_eq!(publisher.flush(PATIENCE).await.confirmed, 30);
    let stats = publisher.stats();
    assert!(stats.resent > 0 && stats.returned == 0, "{stats:?}");
    stand.channel.queue_purge(stand.queue().into(), QueuePurgeOptions::default()).await.unwrap();
}

/// Without a spool the newest are dropped past the bound; who would rather wait, waits until the deadline.
#[tokio::test(flavor = "multi_thread")]
async fn the_buffer_is_bounded() {
    let stand = Stand::empty("bounded").await;
    stand.foreign_queue().await;
    let relay = Relay::before(&amqp_url()).await;
    let config = stand.publisher_config(&relay.url(&amqp_url())).buffer(100, 1 << 20);
    let publisher = Publisher::start(config).unwrap();
    let workflow = workflow(&publisher);
    log_numbered(&workflow, 0..150);
    let stats = publisher.stats();
    assert_eq!((stats.accepted, stats.dropped, stats.waiting), (100, 50, 100));
    let soon = Instant::now() + Duration::from_millis(100);
    let refused = workflow.log_cache_hit("parts", "x").wait(soon).await.unwrap_err();
    assert!(matches!(refused, NotLogged::NoRoom), "{refused}");
    // Who stops waiting has dropped the event, whether or not it was waited for.
    let dropped = publisher.stats().dropped;
    drop(workflow.log_cache_hit("parts", "x").wait(Instant::now() + PATIENCE));
    let impatient = workflow.log_cache_hit("parts", "x").wait(Instant::now() + PATIENCE);
    assert!(tokio::time::timeout(Duration::from_millis(50), impatient).await.is_err());
    assert_eq!(publisher.stats().dropped, dropped + 2);
    let waiting = tokio::spawn({
        let workflow = workflow.clone();
        async move { workflow.log_cache_hit("parts", "x").event_id("e-100").wait(Instant::now() + PATIENCE).await }
    });
    relay.open().await;
    waiting.await.unwrap().unwrap();
    assert_eq!(publisher.flush(PATIENCE).await.left, 0);
    assert_eq!(stand.drained().await, (0..=100).collect::<Vec<_>>(), "the oldest are kept");
    publisher.close(Duration::ZERO).await;
    let closed = workflow.log_cache_hit("parts", "x").wait(Instant::now()).await.unwrap_err();
    assert!(matches!(closed, NotLogged::Closed), "{closed}");
}

/// Closing in an outage says what is lost, and with a spool nothing is: the next publisher on the folder sends it.
#[tokio::test(flavor = "multi_thread")]
async fn closing_says_what_is_left() {
    let stand = Stand::empty("closing").await;
    stand.foreign_queue().await;
    let relay = Relay::before(&amqp_url()).await;
    let away = stand.publisher_config(&relay.url(&amqp_url()));
    let publisher = Publisher::start(away.clone()).unwrap();
    log_numbered(&workflow(&publisher), 0..3);
    let closed = publisher.close(Duration::from_millis(100)).await;
    assert_eq!((closed.confirmed, closed.left, closed.in_spool), (0, 3, 0));
    assert_eq!(closed.lost, ["e-0", "e-1", "e-2"]);

    let folder = tempfile::tempdir().unwrap();
    let publisher = Publisher::start(away.spool(folder.path())).unwrap();
    log_numbered(&workflow(&publisher), 0..3);
    let closed = publisher.close(Duration::from_millis(100)).await;
    assert_eq!((closed.left, closed.in_spool, closed.lost.len()), (3, 3, 0));

    let publisher = Publisher::start(stand.publisher_config(&amqp_url()).spool(folder.path())).unwrap();
    until("they are confirmed", async || publisher.stats().confirmed == 3).await;
    assert_eq!((publisher.stats().recovered, publisher.stats().in_spool), (3, 0));
    assert_eq!(stand.drained().await, [0, 1, 2]);
}

/// Dropping the last handle does not hang, and what was logged still arrives.
#[tokio::test(flavor = "multi_thread")]
async fn dropping_the_last_handle_does_not_hang() {
    let stand = Stand::empty("dropped").await;
    stand.foreign_queue().await;
    let publisher = stand.publisher();
    log_numbered(&workflow(&publisher), 0..1000);
    let started = Instant::now();
    drop(publisher);
    assert!(started.elapsed() < Duration::from_secs(1));
    until("they are in the queue", async || stand.depth(&stand.queue()).await.0 == 1000).await;
}

/// What cannot work is said at the start, and without the password.
#[test]
fn what_cannot_work_is_said_at_the_start() {
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

/// A producer is killed with -9 in the middle of an outage and started again: every event that was accepted into the spool
/// arrives, and is stored once. It is the example of a plain producer, as a process of its own.
#[tokio::test(flavor = "multi_thread")]
async fn kill_nine_in_an_outage_loses_nothing_that_was_spooled() {
    let stand = Stand::new("spool").await;
    let relay = Relay::before(&amqp_url()).await;
    let folder = tempfile::tempdir().unwrap();
    let produce = |events: usize| {
        let mut command = Command::new(crate::examples::built("producer"));
        command
            .args([events.to_string(), "--spool".into(), folder.path().display().to_string()])
            .env("AMQP_URL", relay.url(&amqp_url()))
            .env("CNS_EVENTS_EXCHANGE", stand.exchange())
            .stdout(Stdio::piped());
        command.spawn().unwrap()
    };
    let mut producer = produce(20_000);
    let lines = std::io::BufRead::lines(std::io::BufReader::new(producer.stdout.take().unwrap()));
    let (report, reported) = std::sync::mpsc::channel();
    std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| report.send(line)));
    let mut spooled = 0;
    let deadline = Instant::now() + PATIENCE;
    while spooled < 5000 {
        assert!(Instant::now() < deadline);
        let line = reported.recv_timeout(PATIENCE).unwrap();
        spooled = line
            .split_once("spooled: ")
            .map_or(spooled, |(_, rest)| rest.split(',').next().unwrap().parse().unwrap());
    }
    producer.kill().unwrap(); // SIGKILL
    producer.wait().unwrap();

    let worker = stand.worker().await;
    relay.open().await;
    assert!(produce(0).wait().unwrap().success());
    until("all that was spooled is stored", async || {
        stand.number("select count(*) from enrichment_events where workflow_id = 'producer'").await >= spooled
    })
    .await;
    let first = format!("select count(*) from enrichment_events where (payload->>'key')::int < {spooled}");
    assert_eq!(stand.number(&first).await, spooled, "the first events are those that were spooled first");
    assert_eq!(worker.metric("cns_events_conflicts_total"), 0.0);
}

/// Every event goes to the disk before it is sent, where that is wanted.
#[tokio::test(flavor = "multi_thread")]
async fn a_spool_can_take_every_event_first() {
    let stand = Stand::empty("always").await;
    stand.foreign_queue().await;
    let folder = tempfile::tempdir().unwrap();
    let config = stand.publisher_config(&amqp_url()).spool(folder.path()).spool_when(SpoolWhen::Always);
    let publisher = Publisher::start(config).unwrap();
    log_numbered(&workflow(&publisher), 0..2000);
    assert_eq!(publisher.flush(PATIENCE).await.left, 0);
    let stats = publisher.stats();
    assert_eq!((stats.spooled, stats.in_spool, stats.confirmed), (2000, 0, 2000));
    assert_eq!(stand.drained().await, (0..2000).collect::<Vec<_>>());
    // And one by one, when nothing has happened for a while.
    for number in 0..3 {
        tokio::time::sleep(Duration::from_millis(200)).await; // until everybody sleeps
        log_numbered(&workflow(&publisher), number..number + 1);
        assert_eq!(publisher.flush(Duration::from_secs(20)).await.left, 0, "{:?}", publisher.stats());
    }
}

/// The connection breaks while there are events in flight, on disk and in memory: their order stays.
#[tokio::test(flavor = "multi_thread")]
async fn order_is_kept_through_the_spool() {
    let stand = Stand::empty("order").await;
    stand.foreign_queue().await;
    let relay = Relay::before(&amqp_url()).await;
    relay.open().await;
    let folder = tempfile::tempdir().unwrap();
    let config = stand.publisher_config(&relay.url(&amqp_url())).buffer(1000, 2 << 20).spool(folder.path());
    let publisher = Publisher::start(config).unwrap();
    let workflow = workflow(&publisher);
    let mut logged = 0;
    for _ in 0..3 {
        for number in logged..logged + 2000 {
            // As fast as there is room: half of it is kept on disk while the rest is sent.
            let entry = workflow.log_cache_hit("parts", "x").event_id(format!("e-{number}"));
            entry.wait(Instant::now() + PATIENCE).await.unwrap();
        }
        logged += 2000;
        relay.cut();
        until("the outage is seen", async || publisher.outage().is_some()).await;
        until("there is room", async || publisher.stats().waiting < 100).await;
        log_numbered(&workflow, logged..logged + 50);
        logged += 50;
        until("events are on disk", async || publisher.stats().in_spool > 0).await;
        relay.open().await;
    }
    assert_eq!(publisher.flush(PATIENCE).await.left, 0, "{:?}", publisher.stats());
    let stats = publisher.stats();
    assert_eq!((stats.dropped, stats.confirmed), (0, logged as u64));
    assert_eq!(stand.drained().await, (0..logged).collect::<Vec<_>>());
}

/// A message in the spool that no queue takes does not hold up what comes after it.
#[tokio::test(flavor = "multi_thread")]
async fn a_misrouted_event_in_the_spool_is_put_aside() {
    let stand = Stand::empty("misrouted").await;
    stand.foreign_queue().await;
    let options = FieldTable::default();
    let (queue, exchange) = (stand.queue(), stand.exchange());
    stand
        .channel
        .queue_bind(
            queue.as_str().into(),
            exchange.as_str().into(),
            "cns.cache.hit".into(),
            QueueBindOptions::default(),
            options.clone(),
        )
        .await
        .unwrap();
    stand
        .channel
        .queue_unbind(queue.as_str().into(), exchange.as_str().into(), "cns.#".into(), options.clone())
        .await
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = stand.publisher_config(&amqp_url()).spool(folder.path()).spool_when(SpoolWhen::Always);
    let publisher = Publisher::start(config).unwrap();
    let workflow = workflow(&publisher);
    workflow.log_error("nobody listens").event_id("e-1000");
    until("it came back", async || publisher.stats().returned > 0).await;
    for number in 0..20 {
        log_numbered(&workflow, number..number + 1);
        until("the next is confirmed", async || publisher.stats().confirmed > number as u64).await;
    }
    assert!(publisher.stats().returned < 100, "it is tried again with pauses: {:?}", publisher.stats());
    stand
        .channel
        .queue_bind(queue.into(), exchange.into(), "cns.#".into(), QueueBindOptions::default(), options)
        .await
        .unwrap();
    assert_eq!(publisher.flush(PATIENCE).await.left, 0);
    assert_eq!(stand.drained().await, (0..20).chain([1000]).collect::<Vec<_>>());
}

/// Handles are used from many threads at once, inside a runtime and outside of one.
#[test]
fn many_threads_share_a_publisher() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let stand = runtime.block_on(async {
        let stand = Stand::empty("threads").await;
        stand.foreign_queue().await;
        Arc::new(stand)
    });
    let publisher = stand.publisher();
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let workflow = workflow(&publisher);
            scope.spawn(move || log_numbered(&workflow, thread * 100..(thread + 1) * 100));
        }
    });
    let closed = publisher.close_blocking(PATIENCE);
    assert_eq!((closed.confirmed, closed.left), (800, 0));
    let mut arrived = runtime.block_on(stand.drained());
    arrived.sort_unstable();
    assert_eq!(arrived, (0..800).collect::<Vec<_>>());
    let _inside = runtime.enter();
    drop(stand);
}
