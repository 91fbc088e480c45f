//! The prefetch follows the size of the messages, so that memory is bounded by bytes.

use std::sync::atomic::{AtomicU64, Ordering};

use super::exactly_once::shuffled;
use crate::env::{TestEnv, event, eventually};

/// Memory is bounded by bytes: a lane that may hold 4 MiB consumes 400 messages of 256 KiB a few at a time.
#[tokio::test(flavor = "multi_thread")]
async fn large_messages_shrink_the_prefetch() {
    let env = TestEnv::new("large").await;
    env.declare().await;
    let filler = "x".repeat(256 * 1024);
    let bodies: Vec<String> =
        (0..400).map(|number| event(&format!("l{number}")).replace("parts", &filler)).collect();
    // Small ones first let the prefetch grow; the large ones then shrink it.
    env.publish_all(&shuffled(2000, 7)).await;
    env.publish_all(&bodies).await;
    env.publish_all(&(0..2000).map(|number| event(&format!("z{number}"))).collect::<Vec<_>>()).await;
    let mut worker = env.start(|command| {
        command.env("CNS_EVENTS__WORKER__BUFFER_BYTES", "4194304").env("CNS_EVENTS__LOG__LEVEL", "debug");
    });
    worker.ready().await;
    eventually("all are stored", async || env.rows().await == 4400).await;
    assert!(worker.log().contains("consuming on a new channel"), "{}", worker.log());
    assert!(worker.terminate().await.success());
    assert_eq!(env.depth(&env.queue()).await.0, 0);
}

/// Messages sixteen times as large as one may be, and as many on their way as the prefetch allows: what comes while the lane
/// turns to a smaller one is bounded too.
#[tokio::test(flavor = "multi_thread")]
async fn oversized_messages_do_not_grow_the_memory() {
    const MIB: u64 = 1024 * 1024;
    let env = TestEnv::new("huge").await;
    env.declare().await;
    let huge = event("huge").replace("parts", &"x".repeat(16 * 1024 * 1024));
    for _ in 0..24 {
        env.publish(huge.as_bytes()).await;
    }
    let mut worker = env.start(|command| {
        command.env("CNS_EVENTS__WORKER__BUFFER_BYTES", "16777216").env("CNS_EVENTS__WORKER__LANES", "1");
    });
    worker.ready().await;
    let peak = AtomicU64::new(0);
    eventually("all are dead letters", async || {
        peak.fetch_max(worker.memory(), Ordering::Relaxed);
        worker.metric_value(r#"cns_events_dead_lettered_total{reason="too_large"}"#) >= 24.0
    })
    .await;
    let peak = peak.into_inner() / MIB;
    assert!(peak < 160, "{peak} MiB");
    assert!(worker.terminate().await.success());
    assert_eq!(env.depth(&env.queue()).await.0, 0);
    eventually("the broker has dead-lettered all", async || {
        env.depth(&env.dead_letter_queue()).await.0 == 24
    })
    .await;
}
