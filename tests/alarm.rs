//! A memory alarm of the real broker. It stands apart because it stops every other publisher of that broker.

#![allow(
    unreachable_pub,
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout
)]

#[path = "it/stand.rs"]
mod stand;

use std::process::Command;
use std::time::Duration;

use cns_events::publisher::{Publisher, PublisherConfig};
use uuid::Uuid;

use stand::{PATIENCE, Stand, amqp_url, until};

/// A memory alarm is an outage like any other: events are kept, and sent when it is over. It needs the private broker's own
/// tool; against another broker there is nothing to show.
#[tokio::test(flavor = "multi_thread")]
async fn an_alarm_is_an_outage() {
    let stand = Stand::empty("alarm").await;
    stand.foreign_queue().await;
    let private = Command::new("scripts/services").arg("env").env_remove("AMQP_URL").output().unwrap();
    if !String::from_utf8_lossy(&private.stdout).contains(&amqp_url()) {
        eprintln!("this is not the private broker: its alarm was not raised");
        return;
    }
    let watermark = |limit: &str| {
        let set = Command::new("scripts/services")
            .args(["rabbitmqctl", "-q", "set_vm_memory_high_watermark", limit])
            .output()
            .unwrap();
        assert!(set.status.success(), "{}", String::from_utf8_lossy(&set.stderr));
    };
    let folder = tempfile::tempdir().unwrap();
    let config = PublisherConfig::new(amqp_url(), "test").exchange(stand.exchange()).spool(folder.path());
    let publisher = Publisher::start(config).unwrap();
    let workflow = publisher.workflow(Uuid::now_v7(), "org-1", "w-1");
    let log = |range: std::ops::Range<usize>| {
        range.for_each(|number| drop(workflow.log_cache_hit("parts", number.to_string())));
    };
    log(0..100);
    assert_eq!(publisher.flush(PATIENCE).await.left, 0);
    watermark("0.000001");
    log(100..1000);
    let seen = async {
        until("the alarm is seen", async || publisher.outage().is_some_and(|why| why.contains("blocks")))
            .await;
        until("events go to the disk", async || publisher.stats().in_spool > 0).await;
    };
    // Whatever happens, the alarm ends: the other tests have the same broker.
    let seen = tokio::time::timeout(Duration::from_secs(20), seen).await;
    watermark("0.4");
    seen.expect("the alarm is an outage");
    assert_eq!(publisher.flush(PATIENCE).await.left, 0);
    assert!(stand.depth(&stand.queue()).await.0 >= 1000, "some may have come twice");
}
