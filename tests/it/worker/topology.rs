//! Topology that exists on the broker, and the worker's error where its arguments differ.

use std::process::Command;

use lapin::options::QueueDeclareOptions;
use lapin::types::{AMQPValue, FieldTable};

use crate::env::{TestEnv, event};

/// A queue with other arguments is one clear error and exit code 78, not a crash loop.
#[tokio::test(flavor = "multi_thread")]
async fn a_queue_with_other_arguments_is_a_configuration_error() {
    let env = TestEnv::new("mismatch").await;
    env.declare_foreign_queue().await;
    let mut worker = env.start(|_| {});
    assert_eq!(worker.ended().await.code(), Some(78));
    let log = worker.log();
    for part in
        ["inequivalent arg 'x-", "received", "but current is none", "delete it once it is empty", "passive"]
    {
        assert!(log.contains(part), "{part}: {log}");
    }
    assert!(!log.contains(&env.database_url));
}

/// A user without configure permission may say that everything is there already.
#[tokio::test(flavor = "multi_thread")]
async fn passive_declare_uses_the_existing_topology() {
    let env = TestEnv::new("passive").await;
    let passive = |command: &mut Command| {
        command.env("CNS_EVENTS__AMQP__DECLARE", "passive");
    };
    let mut worker = env.start(passive);
    assert_eq!(worker.ended().await.code(), Some(78), "nothing is there yet");
    assert!(worker.log().contains("NOT_FOUND"), "{}", worker.log());
    env.declare().await;
    env.start(passive).ready().await;
}

/// A stream has the interface of a queue, and acks that remove nothing: it is refused, and its messages stay.
#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_a_stream_is_refused() {
    let env = TestEnv::new("stream").await;
    env.declare().await;
    let queue = format!("{}.stream", env.name);
    let mut arguments = FieldTable::default();
    arguments.insert("x-queue-type".into(), AMQPValue::LongString("stream".into()));
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    env.channel.queue_declare(queue.as_str().into(), durable, arguments).await.unwrap();
    let bound = env.channel.queue_bind(
        queue.as_str().into(),
        env.exchange().into(),
        "cns.#".into(),
        Default::default(),
        FieldTable::default(),
    );
    bound.await.unwrap();
    let mut worker = env.start(|command| {
        command.env("CNS_EVENTS__AMQP__DECLARE", "passive").env("CNS_EVENTS__AMQP__QUEUE", &queue);
    });
    worker.ready().await;
    for number in 0..60 {
        env.publish(event(&format!("e{number}")).as_bytes()).await;
    }
    assert_eq!(worker.ended().await.code(), Some(78));
    assert!(worker.log().contains("the queue is a stream"), "{}", worker.log());
    assert_eq!(env.rows().await, 0);
    drop(worker);
    env.channel.queue_delete(queue.into(), Default::default()).await.unwrap();
}
