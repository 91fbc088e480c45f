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

use cns_events::dead_letters::DeadLetterQueue;
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

/// Settings of the private broker, which count for channels and connections that are opened from now on. Unset on drop.
struct Settings(Vec<&'static str>);

impl Settings {
    /// Sets keys of the broker's application; `None` where the broker is another.
    fn set(values: &[(&'static str, u32)]) -> Option<Settings> {
        if !env::servers_are_private() {
            eprintln!("this is not the private broker: its settings were not changed");
            return None;
        }
        for (key, value) in values {
            eval(&format!("application:set_env(rabbit, {key}, {value})."));
        }
        Some(Settings(values.iter().map(|(key, _)| *key).collect()))
    }
}

impl Drop for Settings {
    fn drop(&mut self) {
        let defaults = [
            ("max_message_size", 134_217_728),
            ("consumer_timeout", 1_800_000),
            ("channel_tick_interval", 60_000),
            ("channel_max", 2047),
        ];
        for (key, value) in defaults.iter().filter(|(key, _)| self.0.contains(key)) {
            eval(&format!("application:set_env(rabbit, {key}, {value})."));
        }
    }
}

fn eval(expression: &str) {
    let done = Services::private().script("rabbitmqctl").args(["-q", "eval", expression]).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
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
    let Some(_settings) = Settings::set(&[("max_message_size", 100_000)]) else { return };
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
    let Some(_settings) = Settings::set(&[("max_message_size", 100_000)]) else { return };
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

/// Fills the dead letters: `malformed` that are not JSON, `others` without a type.
async fn dead_letters(name: &str, malformed: usize, others: usize) -> TestEnv {
    let env = TestEnv::new(name).await;
    env.declare().await;
    let mut worker = env.worker().await;
    let mut bodies: Vec<String> = (0..malformed).map(|number| format!("not json {number}")).collect();
    bodies.extend((0..others).map(|number| format!(r#"{{"event_id": "e{number}"}}"#)));
    env.publish_all(&bodies).await;
    let all = u32::try_from(malformed + others).unwrap();
    eventually("all are dead letters", async || env.depth(&env.dead_letter_queue()).await.0 == all).await;
    assert!(worker.terminate().await.success());
    env
}

/// The broker's ack timeout, much shorter than what is done with the dead letters: replaying at a rate goes on, each is replayed
/// once, and what is not selected stays; what is removed long after it was read is removed.
#[tokio::test(flavor = "multi_thread")]
async fn the_ack_timeout_ends_no_work_with_dead_letters() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let env = dead_letters("acktimeout", 60, 40).await;
    let short = [("consumer_timeout", 1500), ("channel_tick_interval", 300)];
    let Some(_settings) = Settings::set(&short) else { return };
    let mut replay = env.command();
    replay.env("CNS_EVENTS__LOG__LEVEL", "debug");
    replay.args(["dlq", "replay", "--reason", "malformed_json", "--rate", "15"]);
    let replay = replay.output().unwrap();
    let text = env::output_text(&replay);
    assert!(text.contains("ack timeout ended the reading"), "the broker did not: {text}");
    assert!(replay.status.success() && text.contains("replayed: 60, left: 0"), "{text}");
    eventually("the others are back", async || env.depth(&env.dead_letter_queue()).await.0 == 40).await;
    assert_eq!(env.depth(&env.queue()).await.0, 60, "each once");

    let broker = cns_events::broker::BrokerEndpoint::new(&amqp_url(), "test").unwrap();
    let name = env.dead_letter_queue();
    let mut queue = DeadLetterQueue::open(&broker, &name, |_| {}).await.unwrap();
    let mut tags = Vec::new();
    while let Some(held) = queue.next().await.unwrap() {
        tags.push(held.tag);
    }
    // Longer than the ack timeout and the broker's interval of looking at it: somebody thinks about a confirmation.
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(tags.len(), 40);
    for tag in tags.drain(..30) {
        queue.remove(tag).await.unwrap();
    }
    queue.close().await.unwrap();
    eventually("ten are left", async || env.depth(&env.dead_letter_queue()).await.0 == 10).await;
}

/// A broker that allows two channels: the messages of each follow from the number of dead letters.
#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_read_within_the_brokers_limit_of_channels() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let env = dead_letters("fewchannels", 1500, 0).await;
    let Some(_settings) = Settings::set(&[("channel_max", 2)]) else { return };
    let list = env.command().args(["dlq", "list", "--json", "--limit", "5000"]).output().unwrap();
    assert!(list.status.success(), "{}", env::output_text(&list));
    let letters: serde_json::Value = serde_json::from_slice(&list.stdout).unwrap();
    assert_eq!(letters.as_array().unwrap().len(), 1500);
    eventually("all are back", async || env.depth(&env.dead_letter_queue()).await.0 == 1500).await;
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
