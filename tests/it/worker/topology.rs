//! Topology that exists on the broker, and the worker's error where its arguments differ.

use std::process::Command;

use crate::env::TestEnv;

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
