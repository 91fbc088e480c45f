//! The publisher while the broker is away, full or without a queue: nothing is lost, and the order stays.

use std::time::{Duration, Instant};

use cns_events::publisher::{LogError, Publisher, PublisherConfig};
use lapin::options::{QueueBindOptions, QueueDeclareOptions, QueuePurgeOptions};
use lapin::types::{AMQPValue, FieldTable};

use crate::env::relay::Relay;
use crate::env::{TIMEOUT, TestEnv, amqp_url, eventually, output_text};
use crate::publisher::workflow::{log_numbered, workflow};

/// The broker is away when the producer starts, comes, goes again and comes back: every event arrives, in order.
#[tokio::test(flavor = "multi_thread")]
async fn events_of_an_outage_arrive_in_order() {
    let env = TestEnv::empty("outage").await;
    env.declare_foreign_queue().await;
    let relay = Relay::before(&amqp_url()).await;
    let publisher = Publisher::start(env.publisher_config(&relay.url(&amqp_url()))).unwrap();
    let workflow = workflow(&publisher);
    log_numbered(&workflow, 0..500);
    eventually("the publisher says that the broker is away", async || {
        publisher.outage().is_some_and(|why| why.contains("refused"))
    })
    .await;
    assert!(!publisher.stats().connected);
    relay.open().await;
    eventually("the first are confirmed", async || publisher.stats().confirmed == 500).await;
    relay.cut();
    log_numbered(&workflow, 500..1000);
    eventually("the outage is seen", async || publisher.outage().is_some()).await;
    relay.open().await;
    log_numbered(&workflow, 1000..1500);
    assert_eq!(publisher.flush(TIMEOUT).await.left, 0);
    assert_eq!(env.drained().await, (0..1500).collect::<Vec<_>>());
    assert!(publisher.outage().is_none());
}

/// A producer that was deployed before the first worker: no queue takes its messages yet.
#[tokio::test(flavor = "multi_thread")]
async fn unroutable_events_are_parked_and_sent_again() {
    let env = TestEnv::new("unroutable").await;
    let publisher = env.publisher();
    log_numbered(&workflow(&publisher), 0..200);
    eventually("messages came back", async || publisher.stats().returned >= 2).await;
    eventually("it says why", async || publisher.outage().is_some_and(|why| why.contains("no queue"))).await;
    let stats = publisher.stats();
    assert_eq!((stats.confirmed, stats.left()), (0, 200), "a returned message is not confirmed");
    let _worker = env.worker().await;
    assert_eq!(publisher.flush(TIMEOUT).await.confirmed, 200);
    eventually("all are stored", async || env.rows().await == 200).await;
    assert!(publisher.stats().resent >= publisher.stats().returned);
}

/// Among messages that a queue takes, those that none takes are told apart, however the broker puts its confirms together.
#[tokio::test(flavor = "multi_thread")]
async fn an_unroutable_key_does_not_block_others() {
    let env = TestEnv::empty("mixed").await;
    env.declare_foreign_queue().await;
    let unbind = env.channel.queue_unbind(
        env.queue().into(),
        env.exchange().into(),
        "cns.#".into(),
        FieldTable::default(),
    );
    unbind.await.unwrap();
    let bind = |key: &'static str| {
        env.channel.queue_bind(
            env.queue().into(),
            env.exchange().into(),
            key.into(),
            QueueBindOptions::default(),
            FieldTable::default(),
        )
    };
    bind("cns.cache.hit").await.unwrap();
    let publisher = env.publisher();
    let workflow = workflow(&publisher);
    for number in 0..1000 {
        if number % 100 == 99 {
            workflow.log_error("nobody listens").event_id(format!("e-{number}"));
        } else {
            log_numbered(&workflow, number..number + 1);
        }
    }
    eventually("the others are confirmed, and these have come back", async || {
        let stats = publisher.stats();
        stats.confirmed >= 990 && stats.returned >= 10
    })
    .await;
    assert_eq!(publisher.stats().confirmed, 990);
    bind("cns.error").await.unwrap();
    assert_eq!(publisher.flush(TIMEOUT).await.left, 0);
    let mut arrived = env.drained().await;
    arrived.sort_unstable();
    assert_eq!(arrived, (0..1000).collect::<Vec<_>>());
}

/// A queue that refuses messages (nack) gets them again.
#[tokio::test(flavor = "multi_thread")]
async fn nacked_events_are_sent_again() {
    let env = TestEnv::empty("nack").await;
    let publisher = env.publisher();
    eventually("the exchange is there", async || publisher.stats().connected).await;
    let mut arguments = FieldTable::default();
    arguments.insert("x-max-length".into(), AMQPValue::LongInt(5));
    arguments.insert("x-overflow".into(), AMQPValue::LongString("reject-publish".into()));
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    env.channel.queue_declare(env.queue().into(), durable, arguments).await.unwrap();
    let bound = env.channel.queue_bind(
        env.queue().into(),
        env.exchange().into(),
        "cns.#".into(),
        QueueBindOptions::default(),
        FieldTable::default(),
    );
    bound.await.unwrap();
    log_numbered(&workflow(&publisher), 0..30);
    let mut arrived = Vec::new();
    let deadline = Instant::now() + TIMEOUT;
    while arrived.len() < 30 {
        assert!(Instant::now() < deadline, "{:?}", publisher.stats());
        for number in env.drained().await {
            if !arrived.contains(&number) {
                arrived.push(number);
            }
        }
        tokio::time::sleep(crate::env::POLL_INTERVAL).await; // the broker sends no signal
    }
    assert_eq!(publisher.flush(TIMEOUT).await.confirmed, 30);
    let stats = publisher.stats();
    assert!(stats.resent > 0 && stats.returned == 0, "{stats:?}");
    env.channel.queue_purge(env.queue().into(), QueuePurgeOptions::default()).await.unwrap();
}

/// Without a spool the newest are dropped past the bound; who would rather wait, waits until the deadline.
#[tokio::test(flavor = "multi_thread")]
async fn the_buffer_is_bounded() {
    let env = TestEnv::empty("bounded").await;
    env.declare_foreign_queue().await;
    let relay = Relay::before(&amqp_url()).await;
    let config = env.publisher_config(&relay.url(&amqp_url())).buffer(100, 1 << 20);
    let publisher = Publisher::start(config).unwrap();
    let workflow = workflow(&publisher);
    log_numbered(&workflow, 0..150);
    let stats = publisher.stats();
    assert_eq!((stats.accepted, stats.dropped, stats.waiting), (100, 50, 100));
    let soon = Instant::now() + Duration::from_millis(100);
    let refused = workflow.log_cache_hit("parts", "x").wait(soon).await.unwrap_err();
    assert!(matches!(refused, LogError::NoRoom), "{refused}");
    // Who stops waiting has dropped the event, whether or not it was waited for.
    let dropped = publisher.stats().dropped;
    drop(workflow.log_cache_hit("parts", "x").wait(Instant::now() + TIMEOUT));
    let impatient = workflow.log_cache_hit("parts", "x").wait(Instant::now() + TIMEOUT);
    assert!(tokio::time::timeout(Duration::from_millis(50), impatient).await.is_err());
    assert_eq!(publisher.stats().dropped, dropped + 2);
    let waiting = tokio::spawn({
        let workflow = workflow.clone();
        async move { workflow.log_cache_hit("parts", "x").event_id("e-100").wait(Instant::now() + TIMEOUT).await }
    });
    relay.open().await;
    waiting.await.unwrap().unwrap();
    assert_eq!(publisher.flush(TIMEOUT).await.left, 0);
    assert_eq!(env.drained().await, (0..=100).collect::<Vec<_>>(), "the oldest are kept");
    publisher.close(Duration::ZERO).await;
    let closed = workflow.log_cache_hit("parts", "x").wait(Instant::now()).await.unwrap_err();
    assert!(matches!(closed, LogError::Closed), "{closed}");
}

/// A publisher that ends while it connects: the client library's thread ends too, and does not panic. In a process of its own,
/// where no other test has threads of these names.
#[test]
fn a_publisher_ends_while_it_connects() {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    let name = "publisher::outages::publishers_that_end_while_they_connect";
    let output = command.args(["--exact", name, "--ignored", "--nocapture"]).output().unwrap();
    let text = output_text(&output);
    assert!(output.status.success() && text.contains("1 passed") && !text.contains("panicked"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "runs in a process of its own: a_publisher_ends_while_it_connects"]
async fn publishers_that_end_while_they_connect() {
    // A broker that answers, and one that refuses.
    for url in [amqp_url(), "amqp://u@127.0.0.1:9/".to_owned()] {
        for delay_micros in (0..20_000).step_by(250) {
            let publisher = Publisher::start(PublisherConfig::new(&url, "ending")).unwrap();
            // The connection is then in any of its stages.
            tokio::time::sleep(Duration::from_micros(delay_micros)).await;
            publisher.close(Duration::ZERO).await;
        }
    }
    eventually("all threads end", async || client_threads() == 0).await;
}

/// Returns the number of the publishers' threads, and the client library's, in this process.
fn client_threads() -> usize {
    let threads = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let names = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("comm")).ok());
    names.filter(|name| ["lapin-io-loop", "cns-publisher"].contains(&name.trim())).count()
}
