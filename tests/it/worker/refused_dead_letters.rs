//! Messages that the broker accepted and refuses when they are published again: each ends as a dead letter, and its neighbours are
//! stored.

use cns_events::amqp::{ConfirmChannel, Published, RawMessage, RawProperties};
use cns_events::broker::BrokerEndpoint;

use crate::env::{TestEnv, amqp_url, event, eventually};

/// Properties with these headers and delivery-mode 2.
fn with_headers(table: &[u8]) -> RawProperties {
    let length = u32::try_from(table.len()).unwrap().to_be_bytes();
    let properties = [b"\x30\x00", &length[..], table, b"\x02"].concat();
    RawProperties::parse(&properties).unwrap().to_owned()
}

/// Runs two workers over 50 good events with a bad one between; returns the dead letters as `dlq list` shows them.
async fn dead_letters_of(name: &str, table: &[u8]) -> serde_json::Value {
    let env = TestEnv::new(name).await;
    env.declare().await;
    let broker = BrokerEndpoint::new(&amqp_url(), "test").unwrap();
    let mut channel = ConfirmChannel::open(&broker).await.unwrap();
    let bad = RawMessage {
        routing_key: b"cns.test".to_vec(),
        properties: with_headers(table),
        body: b"not json".to_vec(),
    };
    assert_eq!(channel.publish(&env.exchange(), &[bad]).await.unwrap(), [Published::Confirmed]);
    env.publish_all(&(0..50).map(|number| event(&format!("e{number}"))).collect::<Vec<_>>()).await;
    let workers = [env.worker().await, env.worker().await];
    eventually("all good events are stored", async || env.rows().await == 50).await;
    eventually("the bad one is a dead letter", async || env.depth(&env.dead_letter_queue()).await.0 == 1)
        .await;
    eventually("nothing is in flight", async || {
        workers.iter().all(|worker| worker.metric_value("cns_events_in_flight") == 0.0)
    })
    .await;
    // A lane that changes its prefetch has no consumer for a moment.
    eventually("every lane consumes", async || env.depth(&env.queue()).await == (0, 4)).await;
    let list = env.command().args(["dlq", "list", "--json"]).output().unwrap();
    serde_json::from_slice(&list.stdout).unwrap()
}

/// BCC as an empty array, then as a text.
#[tokio::test(flavor = "multi_thread")]
async fn a_header_name_that_stands_twice_parks_no_lane() {
    let list = dead_letters_of("twice", b"\x03BCCA\0\0\0\0\x03BCCS\0\0\0\x01x").await;
    assert_eq!(list[0]["reason"], "malformed_json", "{list}");
}

/// CC likewise.
#[tokio::test(flavor = "multi_thread")]
async fn a_cc_header_that_stands_twice_parks_no_lane() {
    let list = dead_letters_of("cctwice", b"\x02CCA\0\0\0\0\x02CCS\0\0\0\x01x").await;
    assert_eq!(list[0]["reason"], "malformed_json", "{list}");
}

/// BCC in headers that cannot be read: they are kept as they are, and the broker refuses them.
#[tokio::test(flavor = "multi_thread")]
async fn a_reserved_header_among_unreadable_ones_parks_no_lane() {
    let list = dead_letters_of("unreadable_bcc", b"\x01\xffV\x03BCCA\0\0\0\0\x03BCCS\0\0\0\x01x").await;
    assert_eq!(list[0]["reason"], "invalid_field", "{list}");
}
