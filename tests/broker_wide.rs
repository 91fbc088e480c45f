//! States of the real broker that concern all its clients: a memory alarm, a lowered limit of message sizes. A program of its own, so
//! that no other test runs beside it.

#![allow(
    unreachable_pub,
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout
)]

#[path = "env/mod.rs"]
mod env;

use std::time::Duration;

use cns_events::publisher::{Publisher, PublisherConfig};
use uuid::Uuid;

use env::services::Services;
use env::{TIMEOUT, TestEnv, amqp_url, event, eventually};

/// The state is the whole broker's: one test at a time.
static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Raises or ends the alarm of the private broker; false where the broker is another.
fn watermark(limit: &str) -> bool {
    if !env::servers_are_private() {
        eprintln!("this is not the private broker: its alarm was not raised");
        return false;
    }
    let set = Services::private()
        .script("rabbitmqctl")
        .args(["-q", "set_vm_memory_high_watermark", limit])
        .output()
        .unwrap();
    assert!(set.status.success(), "{}", String::from_utf8_lossy(&set.stderr));
    true
}

/// Ends the alarm, whatever happens: the other tests have the same broker.
struct Alarm;

impl Alarm {
    fn raise() -> Option<Alarm> {
        watermark("0.000001").then_some(Alarm)
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        watermark("0.4");
    }
}

/// Limit of message sizes of the private broker. The broker's default again on drop.
struct MaxMessageSize;

impl MaxMessageSize {
    fn lower(bytes: u32) -> Option<MaxMessageSize> {
        env::servers_are_private().then(|| {
            MaxMessageSize::set(bytes);
            MaxMessageSize
        })
    }

    /// Sets the limit of channels that are opened from now on.
    fn set(bytes: u32) {
        let change = format!("application:set_env(rabbit, max_message_size, {bytes}).");
        let set = Services::private().script("rabbitmqctl").args(["-q", "eval", &change]).output().unwrap();
        assert!(set.status.success(), "{}", String::from_utf8_lossy(&set.stderr));
    }
}

impl Drop for MaxMessageSize {
    fn drop(&mut self) {
        MaxMessageSize::set(134_217_728);
    }
}

/// The limit is lowered while messages above it wait, as an upgrade to RabbitMQ 4 does. A bad one of them cannot be published as a
/// dead letter: it ends in the broker's own dead-lettering, its neighbours are stored, and every lane goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_above_a_lowered_limit_parks_no_lane() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let env = TestEnv::new("lowered").await;
    env.declare().await;
    let mut bodies: Vec<String> = (0..200).map(|number| event(&format!("e{number}"))).collect();
    bodies.insert(50, format!("not json {}", "x".repeat(200_000)));
    bodies.insert(150, format!("not json either {}", "x".repeat(300_000)));
    env.publish_all(&bodies).await;
    let Some(_limit) = MaxMessageSize::lower(100_000) else { return };
    let worker = env.worker().await;
    eventually("the others are stored", async || env.rows().await == 200).await;
    eventually("both are dead letters", async || env.depth(&env.dead_letter_queue()).await.0 == 2).await;
    eventually("nothing is in flight", async || worker.metric_value("cns_events_in_flight") == 0.0).await;
    eventually("both lanes consume", async || env.depth(&env.queue()).await == (0, 2)).await;
}

/// A producer's event above the broker's limit is set aside, and the others arrive.
#[tokio::test(flavor = "multi_thread")]
async fn an_event_above_the_brokers_limit_blocks_no_other() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let env = TestEnv::empty("toolarge").await;
    env.declare_foreign_queue().await;
    let Some(_limit) = MaxMessageSize::lower(100_000) else { return };
    let folder = tempfile::tempdir().unwrap();
    let config = PublisherConfig::new(amqp_url(), "test").exchange(env.exchange()).spool(folder.path());
    let publisher = Publisher::start(config.clone()).unwrap();
    let workflow = publisher.workflow(Uuid::now_v7(), "org-1", "w-1");
    for number in 0..500 {
        let size = if number % 250 == 99 { 200_000 } else { 10 };
        workflow.log_cache_hit("parts", "x".repeat(size)).event_id(format!("e-{number}"));
    }
    let flushed = publisher.flush(TIMEOUT).await;
    assert_eq!((flushed.confirmed, flushed.rejected, flushed.left), (498, 2, 0));
    publisher.close(TIMEOUT).await;
    let set_aside = std::fs::read_to_string(folder.path().join("refused.jsonl")).unwrap();
    assert_eq!(set_aside.lines().count(), 2);
    assert!(set_aside.contains("\"e-99\"") && set_aside.contains("\"e-349\""));
    let again = Publisher::start(config).unwrap();
    assert_eq!((again.stats().recovered, again.stats().left()), (0, 0));
}

/// The worker goes on under an alarm: it stores and acknowledges, because only what publishes is blocked. Dead letters wait on one
/// connection, their neighbours are stored, and each is published once.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_stores_during_a_memory_alarm() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let env = TestEnv::new("alarmed").await;
    env.declare().await;
    let events =
        |range: std::ops::Range<usize>| range.map(|number| event(&format!("e{number}"))).collect::<Vec<_>>();
    env.publish_all(&events(0..500)).await;
    let Some(alarm) = Alarm::raise() else { return };
    let mut worker = env.start(|_| {});
    eventually("all are stored", async || env.rows().await == 500).await;
    eventually("all are acknowledged", async || worker.metric_value("cns_events_in_flight") == 0.0).await;
    assert_eq!(worker.metric_value("cns_events_acks_lost_total"), 0.0);
    worker.ready().await;
    let doctor = env.command().args(["doctor", "--json"]).output().unwrap();
    assert_eq!(doctor.status.code(), Some(1));
    let found = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(
        found.contains("the broker blocks publishers") && found.contains("rabbitmq-diagnostics"),
        "{found}"
    );
    assert!(worker.terminate().await.success());
    drop(alarm);

    // With a message among them that has to become a letter.
    eventually("the broker takes messages again", async || {
        env.command().arg("doctor").output().unwrap().status.success()
    })
    .await;
    let fresh = TestEnv::new("alarmedletter").await;
    fresh.declare().await;
    let mut bodies = events(0..2000);
    for number in 0..20 {
        bodies.insert(number * 90, format!("not json {number}"));
    }
    fresh.publish_all(&bodies).await;
    let alarm = Alarm::raise().unwrap();
    let worker = fresh.start(|command| {
        command.env("CNS_EVENTS__WORKER__PREFETCH", "40").env("CNS_EVENTS__WORKER__BATCH_SIZE", "20");
    });
    eventually("the good ones are stored during the alarm", async || fresh.rows().await == 2000).await;
    eventually("both lanes report it", async || {
        worker.metric_value("cns_events_dead_letters_blocked") == 2.0
    })
    .await;
    assert!(worker.log().contains("alarm of the broker"));
    worker.ready().await;
    eventually("only the bad ones are open", async || worker.metric_value("cns_events_in_flight") == 20.0)
        .await;
    eventually("both lanes consume", async || fresh.depth(&fresh.queue()).await == (0, 2)).await;
    assert_eq!(fresh.depth(&fresh.dead_letter_queue()).await.0, 0);
    // Longer than the timeout of a broker's answer, after which another connection would publish another copy.
    tokio::time::sleep(Duration::from_secs(15)).await;
    drop(alarm);
    eventually("it is settled", async || worker.metric_value("cns_events_in_flight") == 0.0).await;
    eventually("each dead letter is there", async || fresh.depth(&fresh.dead_letter_queue()).await.0 >= 20)
        .await;
    assert_eq!(fresh.depth(&fresh.dead_letter_queue()).await.0, 20, "each once");
    assert_eq!(fresh.depth(&fresh.queue()).await.0, 0);
    assert_eq!(worker.metric_value("cns_events_dead_letters_blocked"), 0.0);
    assert_eq!(worker.metric_value("cns_events_redelivered_total"), 0.0);
}

/// A memory alarm is an outage like any other: events are kept, and sent when it is over. It needs the private broker's own
/// tool; against another broker there is nothing to show.
#[tokio::test(flavor = "multi_thread")]
async fn a_memory_alarm_is_an_outage_for_the_publisher() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let env = TestEnv::empty("alarm").await;
    env.declare_foreign_queue().await;
    let folder = tempfile::tempdir().unwrap();
    let config = PublisherConfig::new(amqp_url(), "test").exchange(env.exchange()).spool(folder.path());
    let publisher = Publisher::start(config).unwrap();
    let workflow = publisher.workflow(Uuid::now_v7(), "org-1", "w-1");
    let log = |range: std::ops::Range<usize>| {
        range.for_each(|number| drop(workflow.log_cache_hit("parts", number.to_string())));
    };
    log(0..100);
    assert_eq!(publisher.flush(TIMEOUT).await.left, 0);
    let Some(alarm) = Alarm::raise() else { return };
    log(100..1000);
    let seen = async {
        eventually("the alarm is seen", async || {
            publisher.outage().is_some_and(|why| why.contains("blocks"))
        })
        .await;
        eventually("events go to the disk", async || publisher.stats().in_spool > 0).await;
    };
    let seen = tokio::time::timeout(Duration::from_secs(20), seen).await;
    drop(alarm);
    seen.expect("the alarm is an outage");
    assert_eq!(publisher.flush(TIMEOUT).await.left, 0);
    assert!(env.depth(&env.queue()).await.0 >= 1000, "some may have come twice");
}
