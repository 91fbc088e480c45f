//! The publisher's spool on disk: through an outage, a kill and a restart.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use cns_events::event::payload::CacheHit;
use cns_events::event::{Workflow, empty_object};
use cns_events::publisher::{LogError, Publisher, SpoolWhen};
use lapin::options::QueueBindOptions;
use lapin::types::FieldTable;

use crate::env::relay::Relay;
use crate::env::{TIMEOUT, TestEnv, amqp_url, eventually};
use crate::publisher::workflow::{log_numbered, workflow};

/// Closing in an outage says what is lost, and with a spool nothing is: the next publisher on the folder sends it.
#[tokio::test(flavor = "multi_thread")]
async fn closing_reports_the_events_left_in_the_spool() {
    let env = TestEnv::empty("closing").await;
    env.declare_foreign_queue().await;
    let relay = Relay::before(&amqp_url()).await;
    let away = env.publisher_config(&relay.url(&amqp_url()));
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

    let publisher = Publisher::start(env.publisher_config(&amqp_url()).spool(folder.path())).unwrap();
    eventually("they are confirmed", async || publisher.stats().confirmed == 3).await;
    assert_eq!((publisher.stats().recovered, publisher.stats().in_spool), (3, 0));
    assert_eq!(env.drained().await, [0, 1, 2]);
}

/// A producer is killed with -9 in the middle of an outage and started again: every event that was accepted into the spool
/// arrives, and is stored once. It is the example of a plain producer, as a process of its own.
#[tokio::test(flavor = "multi_thread")]
async fn sigkill_in_an_outage_loses_no_spooled_event() {
    let env = TestEnv::new("spool").await;
    let relay = Relay::before(&amqp_url()).await;
    let folder = tempfile::tempdir().unwrap();
    let produce = |events: usize| {
        let mut command = Command::new(crate::docs::examples::built("producer"));
        command
            .args([events.to_string(), "--spool".into(), folder.path().display().to_string()])
            .env("AMQP_URL", relay.url(&amqp_url()))
            .env("CNS_EVENTS_EXCHANGE", env.exchange())
            .stdout(Stdio::piped());
        command.spawn().unwrap()
    };
    let mut producer = produce(20_000);
    let lines = std::io::BufRead::lines(std::io::BufReader::new(producer.stdout.take().unwrap()));
    let (report, reported) = std::sync::mpsc::channel();
    std::thread::spawn(move || lines.map_while(Result::ok).try_for_each(|line| report.send(line)));
    let mut spooled = 0;
    let deadline = Instant::now() + TIMEOUT;
    while spooled < 5000 {
        assert!(Instant::now() < deadline);
        let line = reported.recv_timeout(TIMEOUT).unwrap();
        spooled = line
            .split_once("spooled: ")
            .map_or(spooled, |(_, rest)| rest.split(',').next().unwrap().parse().unwrap());
    }
    producer.kill().unwrap(); // SIGKILL
    producer.wait().unwrap();

    let worker = env.worker().await;
    relay.open().await;
    assert!(produce(0).wait().unwrap().success());
    eventually("all that was spooled is stored", async || {
        env.number("select count(*) from enrichment_events where workflow_id = 'producer'").await >= spooled
    })
    .await;
    let first = format!("select count(*) from enrichment_events where (payload->>'key')::int < {spooled}");
    assert_eq!(env.number(&first).await, spooled, "the first events are those that were spooled first");
    assert_eq!(worker.metric_value("cns_events_conflicts_total"), 0.0);
}

/// Every event goes to the disk before it is sent, where that is wanted.
#[tokio::test(flavor = "multi_thread")]
async fn a_spool_can_hold_every_event_before_it_is_sent() {
    let env = TestEnv::empty("always").await;
    env.declare_foreign_queue().await;
    let folder = tempfile::tempdir().unwrap();
    let config = env.publisher_config(&amqp_url()).spool(folder.path()).spool_when(SpoolWhen::Always);
    let publisher = Publisher::start(config).unwrap();
    log_numbered(&workflow(&publisher), 0..2000);
    assert_eq!(publisher.flush(TIMEOUT).await.left, 0);
    let stats = publisher.stats();
    assert_eq!((stats.spooled, stats.in_spool, stats.confirmed), (2000, 0, 2000));
    assert_eq!(env.drained().await, (0..2000).collect::<Vec<_>>());
    // And one by one, when nothing has happened for a while.
    for number in 0..3 {
        // An idle publisher sends no signal: long enough for its thread to have gone to sleep.
        tokio::time::sleep(Duration::from_millis(200)).await;
        log_numbered(&workflow(&publisher), number..number + 1);
        assert_eq!(publisher.flush(Duration::from_secs(20)).await.left, 0, "{:?}", publisher.stats());
    }
}

/// The connection breaks while there are events in flight, on disk and in memory: their order stays.
#[tokio::test(flavor = "multi_thread")]
async fn the_spool_keeps_the_order_of_events() {
    let env = TestEnv::empty("order").await;
    env.declare_foreign_queue().await;
    let relay = Relay::before(&amqp_url()).await;
    relay.open().await;
    let folder = tempfile::tempdir().unwrap();
    let config = env.publisher_config(&relay.url(&amqp_url())).buffer(1000, 2 << 20).spool(folder.path());
    let publisher = Publisher::start(config).unwrap();
    let workflow = workflow(&publisher);
    let mut logged = 0;
    for _ in 0..3 {
        for number in logged..logged + 2000 {
            // As fast as there is room: half of it is kept on disk while the rest is sent.
            let entry = workflow.log_cache_hit("parts", "x").event_id(format!("e-{number}"));
            entry.wait(Instant::now() + TIMEOUT).await.unwrap();
        }
        logged += 2000;
        relay.cut();
        eventually("the outage is seen", async || publisher.outage().is_some()).await;
        eventually("there is room", async || publisher.stats().waiting < 100).await;
        log_numbered(&workflow, logged..logged + 50);
        logged += 50;
        eventually("events are on disk", async || publisher.stats().in_spool > 0).await;
        relay.open().await;
    }
    assert_eq!(publisher.flush(TIMEOUT).await.left, 0, "{:?}", publisher.stats());
    let stats = publisher.stats();
    assert_eq!((stats.dropped, stats.confirmed), (0, logged as u64));
    assert_eq!(env.drained().await, (0..logged).collect::<Vec<_>>());
}

/// A message in the spool that no queue takes does not hold up what comes after it.
#[tokio::test(flavor = "multi_thread")]
async fn an_unroutable_spooled_event_is_parked() {
    let env = TestEnv::empty("misrouted").await;
    env.declare_foreign_queue().await;
    let options = FieldTable::default();
    let (queue, exchange) = (env.queue(), env.exchange());
    env.channel
        .queue_bind(
            queue.as_str().into(),
            exchange.as_str().into(),
            "cns.cache.hit".into(),
            QueueBindOptions::default(),
            options.clone(),
        )
        .await
        .unwrap();
    env.channel
        .queue_unbind(queue.as_str().into(), exchange.as_str().into(), "cns.#".into(), options.clone())
        .await
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = env.publisher_config(&amqp_url()).spool(folder.path()).spool_when(SpoolWhen::Always);
    let publisher = Publisher::start(config).unwrap();
    let workflow = workflow(&publisher);
    workflow.log_error("nobody listens").event_id("e-1000");
    eventually("it came back", async || publisher.stats().returned > 0).await;
    for number in 0..20 {
        log_numbered(&workflow, number..number + 1);
        eventually("the next is confirmed", async || publisher.stats().confirmed > number as u64).await;
    }
    assert!(publisher.stats().returned < 100, "it is tried again with pauses: {:?}", publisher.stats());
    env.channel
        .queue_bind(queue.into(), exchange.into(), "cns.#".into(), QueueBindOptions::default(), options)
        .await
        .unwrap();
    assert_eq!(publisher.flush(TIMEOUT).await.left, 0);
    assert_eq!(env.drained().await, (0..20).chain([1000]).collect::<Vec<_>>());
}

/// A caller that may not wait for the disk gets a publisher at once. A folder that cannot be used ends it no later than in memory.
#[tokio::test(flavor = "multi_thread")]
async fn a_spool_that_is_opened_later_is_used_or_done_without() {
    let env = TestEnv::empty("later").await;
    env.declare_foreign_queue().await;
    let folder = tempfile::tempdir().unwrap();
    let away = env.publisher_config("amqp://127.0.0.1:1/%2f").spool(folder.path()).open_spool_later();
    let publisher = Publisher::start(away).unwrap();
    log_numbered(&workflow(&publisher), 0..3);
    let closed = publisher.close(Duration::from_millis(100)).await;
    assert_eq!((closed.left, closed.in_spool, closed.lost.len()), (3, 3, 0));

    let file = tempfile::NamedTempFile::new().unwrap();
    let unusable = env.publisher_config(&amqp_url()).spool(file.path());
    assert!(Publisher::start(unusable.clone()).is_err());
    let publisher = Publisher::start(unusable.open_spool_later()).unwrap();
    log_numbered(&workflow(&publisher), 3..5);
    let publisher = (publisher.close(TIMEOUT).await, publisher);
    assert_eq!((publisher.0.confirmed, publisher.1.stats().spooled), (2, 0));

    let publisher = Publisher::start(env.publisher_config(&amqp_url()).spool(folder.path())).unwrap();
    eventually("the first ones are confirmed", async || publisher.stats().confirmed == 3).await;
    assert_eq!(env.drained().await, [3, 4, 0, 1, 2]);
}

/// A caller learns why an event was not accepted, and can encode an event now and send it later.
#[tokio::test(flavor = "multi_thread")]
async fn a_caller_learns_why_an_event_was_not_accepted() {
    let env = TestEnv::empty("reasons").await;
    env.declare_foreign_queue().await;
    let shared = Workflow::new(uuid::Uuid::nil(), "org", "w");
    let event = |n: usize| {
        let payload = CacheHit { cache: "parts".into(), key: n.to_string().into() };
        let mut event = shared.event(payload, empty_object());
        event.event_id = format!("e-{n}").into();
        event
    };
    let small = env.publisher_config("amqp://127.0.0.1:1/%2f").buffer(1, 2 * 1024 * 1024);
    let publisher = Publisher::start(small).unwrap();
    let mut invalid = event(0);
    invalid.routing_key = "elsewhere".into();
    assert!(matches!(publisher.try_log(invalid, None), Err(LogError::Invalid(_))));
    publisher.try_log(event(0), None).unwrap();
    let encoded = publisher.encode(event(1), None).unwrap();
    assert!(matches!(publisher.try_send(encoded.clone()), Err(LogError::NoRoom)));
    publisher.close(Duration::ZERO).await;
    assert!(matches!(publisher.try_send(encoded.clone()), Err(LogError::Closed)));
    assert_eq!((publisher.stats().invalid, publisher.stats().dropped), (1, 2));

    let publisher = Publisher::start(env.publisher_config(&amqp_url())).unwrap();
    publisher.try_send(encoded).unwrap();
    assert_eq!(publisher.close(TIMEOUT).await.confirmed, 1);
    assert_eq!(env.drained().await, [1]);
}
