//! Messages that RabbitMQ takes and most client libraries cannot read: texts that are no UTF-8, headers larger than a frame. They
//! are published as bytes, because no careful client would.

use cns_events::amqp::table::Table;
use cns_events::amqp::{Browser, ConfirmChannel, Published, RawMessage, RawProperties};
use cns_events::broker::{BrokerEndpoint, queue_depth};

use crate::env::{TestEnv, amqp_url, event, eventually, header_bytes};

/// Properties with a `message_id` that is no UTF-8: content-type, delivery-mode, message-id.
const BAD_ID: &[u8] = b"\x90\x80\x10application/json\x02\x02\xff\xfe";

fn broker() -> BrokerEndpoint {
    BrokerEndpoint::new(&amqp_url(), "test").unwrap()
}

async fn channel() -> ConfirmChannel {
    ConfirmChannel::open(&broker()).await.unwrap()
}

async fn browser(queue: &str) -> Browser {
    Browser::open(&broker(), queue).await.unwrap()
}

async fn publish(channel: &mut ConfirmChannel, env: &TestEnv, message: RawMessage) {
    assert_eq!(channel.publish(&env.exchange(), &[message]).await.unwrap(), [Published::Confirmed]);
}

fn message(routing_key: &[u8], properties: &[u8], body: &str) -> RawMessage {
    RawMessage {
        routing_key: routing_key.to_owned(),
        properties: RawProperties::parse(properties).unwrap().to_owned(),
        body: body.into(),
    }
}

/// Among three thousand good neighbours, with two workers: the bad ones are dead letters with their reason, byte for
/// byte; not one neighbour is lost or dead-lettered, and no session ends over them.
async fn is_set_aside(queue_type: &str) {
    const GOOD: usize = 3000;
    let env = TestEnv::new("unreadable").await;
    let change = |command: &mut std::process::Command| {
        command.env("CNS_EVENTS__AMQP__QUEUE_TYPE", queue_type);
    };
    let mut first = env.start(change);
    first.ready().await;
    assert!(first.terminate().await.success());
    let mut channel = channel().await;
    let header_name = b"\x30\x00\x00\x00\x00\x08\x02\xff\xfeS\x00\x00\x00\x00\x02"; // headers, delivery-mode
    let bad = [
        message(b"cns.test", BAD_ID, "the first"),
        message(b"cns.\xff", b"\x10\x00\x02", "the second"),
        message(b"cns.test", header_name, "the third"),
    ];
    let bodies: Vec<String> = (0..GOOD).map(|number| event(&format!("e{number}"))).collect();
    for (chunk, bad) in bodies.chunks(GOOD / 3).zip(&bad) {
        env.publish_all(chunk).await;
        publish(&mut channel, &env, bad.clone()).await;
    }
    let workers = [env.start(change), env.start(change)];
    eventually("the neighbours are stored", async || env.rows().await == GOOD as i64).await;
    eventually("the bad ones are letters", async || env.depth(&env.dead_letter_queue()).await.0 == 3).await;
    eventually("the queue is empty", async || env.depth(&env.queue()).await.0 == 0).await;
    for worker in &workers {
        worker.ready().await;
        assert!(!worker.log().contains("panicked"), "{}", worker.log());
    }
    let counted = r#"cns_events_dead_lettered_total{reason="invalid_field"}"#;
    assert_eq!(workers.iter().map(|worker| worker.metric_value(counted)).sum::<f64>(), 3.0);

    let mut letters = Vec::new();
    let mut browser = browser(&env.dead_letter_queue()).await;
    while let Some(got) = browser.next().await.unwrap() {
        letters.push(got.message);
    }
    for (bad, field) in bad.iter().zip(["message_id", "routing_key", "headers"]) {
        let letter = letters.iter().find(|letter| letter.body == bad.body).expect("byte for byte");
        assert_eq!(letter.routing_key, bad.routing_key);
        let bytes = letter.properties.to_bytes();
        assert!(header_bytes(&bytes, "x-cns-reason", "invalid_field"), "{letter:?}");
        assert!(header_bytes(&bytes, "x-cns-field", field), "{letter:?}");
        assert!(
            header_bytes(
                &bytes,
                "x-cns-detail",
                &match field {
                    "headers" =>
                        "headers cannot be read: a name is not UTF-8, or a value has no known type".to_owned(),
                    field => format!("{field} is not UTF-8"),
                }
            ),
            "{letter:?}"
        );
    }
    browser.close().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_lapin_cannot_read_are_dead_lettered() {
    is_set_aside("quorum").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_lapin_cannot_read_are_dead_lettered_from_a_classic_queue() {
    is_set_aside("classic").await;
}

/// While its letter is not taken it is held, and its neighbours are stored. When it was held for too long, what the letter needs
/// is declared anew.
#[tokio::test(flavor = "multi_thread")]
async fn an_unreadable_message_is_held_until_its_dead_letter_is_confirmed() {
    let env = TestEnv::new("unbound").await;
    env.declare().await;
    let dlx = format!("{}.dlx", env.name);
    let worker = env.start(|command| {
        command
            .env("CNS_EVENTS__WORKER__HOLD_SECONDS", "1")
            .env("CNS_EVENTS__DATABASE__STATEMENT_TIMEOUT_MS", "1000");
    });
    worker.ready().await;
    env.channel.exchange_delete(dlx.as_str().into(), Default::default()).await.unwrap();
    let mut channel = channel().await;
    publish(&mut channel, &env, message(b"cns.test", BAD_ID, "unreadable")).await;
    env.publish_all(&(0..50).map(|number| event(&format!("e{number}"))).collect::<Vec<_>>()).await;
    eventually("they are stored", async || env.rows().await == 50).await;
    eventually("the letter is taken", async || {
        crate::env::depth_of(&env.dead_letter_queue()).await.is_some_and(|(letters, _)| letters >= 1)
    })
    .await;
    eventually("nothing is left", async || env.depth(&env.queue()).await.0 == 0).await;
    worker.ready().await;
    let redelivered = worker.metric_value("cns_events_redelivered_total");
    assert!(redelivered <= 200.0, "{redelivered}: in no loop");
}

/// Headers that fill a frame, to which the broker adds one of its own when the message is delivered again: larger than any
/// frame that was agreed. A good message is stored like any other, a bad one becomes a letter that says what it had to
/// leave out, and `dlq` can look at it as often as it likes.
#[tokio::test(flavor = "multi_thread")]
async fn headers_larger_than_a_frame_are_read() {
    let env = TestEnv::new("outgrown").await;
    env.declare().await;
    let mut headers = Table::default();
    headers.text("h", "x".repeat(131_030).as_bytes());
    let mut large = RawProperties::default();
    large.set_persistent();
    large.set_headers(&headers);
    let large = large.to_bytes();
    let mut first = channel().await;
    publish(&mut first, &env, message(b"cns.test", &large, &event("large"))).await;
    publish(&mut first, &env, message(b"cns.test", &large, "not json")).await;
    env.publish_all(&(0..50).map(|number| event(&format!("e{number}"))).collect::<Vec<_>>()).await;
    let mut reader = browser(&env.queue()).await;
    for _ in 0..2 {
        assert!(reader.next().await.unwrap().is_some());
    }
    reader.close().await.unwrap(); // returned, so that their next delivery is not their first
    eventually("all are back", async || env.depth(&env.queue()).await.0 == 52).await;
    let worker = env.worker().await;
    eventually("all good ones are stored", async || env.rows().await == 51).await;
    eventually("the bad one is a letter", async || env.depth(&env.dead_letter_queue()).await.0 == 1).await;
    worker.ready().await;
    for _ in 0..3 {
        let list = env.command().args(["dlq", "list", "--json"]).output().unwrap();
        let said = String::from_utf8_lossy(&list.stdout).into_owned();
        assert!(list.status.success() && said.contains("malformed_json"), "{list:?}");
        eventually("it is back", async || env.depth(&env.dead_letter_queue()).await.0 == 1).await;
    }
    let mut browser = browser(&env.dead_letter_queue()).await;
    let letter = browser.next().await.unwrap().expect("the letter");
    let names: Vec<_> = letter.message.properties.headers().map(|entry| entry.name.to_owned()).collect();
    let has = |name: &str| names.iter().any(|found| found == name.as_bytes());
    assert!(has("x-cns-headers-left-out") && !has("h"));
    browser.close().await.unwrap();
}

/// Headers nested as deep as a frame has room for, which the worker has to follow: an event like any other, and
/// a letter like any other.
#[tokio::test(flavor = "multi_thread")]
async fn headers_of_any_depth_are_read() {
    let env = TestEnv::new("deep").await;
    let mut worker = env.worker().await;
    // Arrays in arrays, and tables in tables: `head` are the bytes before the length of each.
    let nested = |head: &[u8], levels: usize| {
        let mut lengths = Vec::new();
        let each = head.len() + 4;
        for level in (0..levels).rev() {
            lengths.extend_from_slice(head);
            lengths.extend_from_slice(&((level * each) as u32).to_be_bytes());
        }
        lengths
    };
    let deep = |body: &str, inner: &[u8]| {
        let mut table = b"\x04deep".to_vec();
        table.extend_from_slice(inner);
        let mut properties = b"\x30\x00".to_vec();
        properties.extend_from_slice(&(table.len() as u32).to_be_bytes());
        properties.extend_from_slice(&table);
        properties.push(2);
        RawMessage {
            routing_key: b"cns.test".to_vec(),
            properties: RawProperties::parse(&properties).unwrap().to_owned(),
            body: body.into(),
        }
    };
    let arrays = nested(b"A", 25_000);
    // A table's entry begins with its name, here empty; the outermost has that of the header.
    let tables = nested(b"\x00F", 20_000)[1..].to_vec();
    let mut channel = channel().await;
    for (name, inner) in [("arrays", &arrays), ("tables", &tables)] {
        publish(&mut channel, &env, deep(&event(name), inner)).await;
        publish(&mut channel, &env, deep("not json", inner)).await;
    }
    eventually("they are stored", async || env.rows().await == 2).await;
    eventually("they are letters", async || env.depth(&env.dead_letter_queue()).await.0 == 2).await;
    let list = env.command().args(["dlq", "list"]).output().unwrap();
    assert!(
        list.status.success() && String::from_utf8_lossy(&list.stdout).contains("malformed_json"),
        "{list:?}"
    );
    assert!(worker.child.try_wait().unwrap().is_none(), "{}", worker.log());
    assert!(worker.terminate().await.success());
}

/// Returned and confirmed messages are told apart, message by message.
#[tokio::test(flavor = "multi_thread")]
async fn each_raw_publish_has_its_own_outcome() {
    let env = TestEnv::new("outcomes").await;
    env.declare().await;
    let mut channel = channel().await;
    let mut plain = RawProperties::default();
    plain.set_persistent();
    let plain = plain.to_bytes();
    let big = "x".repeat(300_000);
    let outcomes = channel
        .publish(
            &env.exchange(),
            &[
                message(b"cns.a", &plain, "a"),
                message(b"elsewhere", &plain, "b"),
                message(b"cns.b", &plain, &big),
                message(b"elsewhere", &plain, "c"),
            ],
        )
        .await
        .unwrap();
    let returned = Published::Returned("NO_ROUTE".into());
    assert_eq!(outcomes, [Published::Confirmed, returned.clone(), Published::Confirmed, returned]);
    assert_eq!(queue_depth(&broker(), &env.queue()).await.unwrap().ready, 2);
    let mut browser = browser(&env.queue()).await;
    let first = browser.next().await.unwrap().unwrap();
    browser.ack(first.tag).await.unwrap();
    assert_eq!(browser.next().await.unwrap().unwrap().message.body, big.as_bytes());
    assert!(browser.next().await.unwrap().is_none());
    browser.close().await.unwrap();
    eventually("what was held is back", async || env.depth(&env.queue()).await.0 == 1).await;
    let error = queue_depth(&broker(), "no such queue").await.unwrap_err();
    assert!(error.to_string().contains("NOT_FOUND"), "{error}");
}
