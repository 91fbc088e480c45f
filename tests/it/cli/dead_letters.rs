//! `cns-events dlq`, as an operator uses it.

use std::process::{Output, Stdio};

use cns_events::amqp::{ConfirmChannel, Property, Published, RawMessage, RawProperties};
use cns_events::broker::BrokerEndpoint;
use lapin::BasicProperties;
use serde_json::Value;

use crate::env::{TestEnv, amqp_url, event, eventually, header};

impl TestEnv {
    fn dlq(&self, arguments: &[&str]) -> Output {
        self.command().arg("dlq").args(arguments).stdin(Stdio::null()).output().unwrap()
    }

    /// Returns the output of a `dlq` command with `--json`.
    fn dlq_json(&self, arguments: &[&str]) -> Value {
        let output = self.dlq(&[arguments, &["--json"]].concat());
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
    }
}

fn text(output: &[u8]) -> String {
    String::from_utf8_lossy(output).into_owned()
}

/// Three bad events become three letters.
async fn with_three_letters(test: &str) -> TestEnv {
    let env = TestEnv::new(test).await;
    let mut worker = env.worker().await;
    let bad_bom = event("bad-bom").replace("6f9619ff-8b86", "zzzzzzzz-8b86");
    let nul = event("nul").replace(r#""payload":{"#, r#""payload":{"n":"\u0000","#);
    for body in [bad_bom.as_str(), nul.as_str(), "not json"] {
        env.publish_with(body.as_bytes(), "cns.some.key", BasicProperties::default()).await;
    }
    eventually("they are letters", async || env.depth(&env.dead_letter_queue()).await.0 == 3).await;
    assert!(worker.terminate().await.success());
    env
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_listed_shown_and_exported_without_being_consumed() {
    let env = with_three_letters("dlqlist").await;
    // A quorum queue requeues what a command has held shortly after the command has ended.
    let requeued = async || {
        eventually("all are requeued", async || env.depth(&env.dead_letter_queue()).await.0 == 3).await;
    };
    let table = text(&env.dlq(&["list"]).stdout);
    for word in ["invalid_field", "bom_id", "unstorable", "payload", "malformed_json", "cache_hit"] {
        assert!(table.contains(word), "{word} in\n{table}");
    }
    requeued().await;
    let list = env.dlq_json(&["list"]);
    let ids: Vec<&str> =
        list.as_array().unwrap().iter().map(|letter| letter["id"].as_str().unwrap()).collect();
    assert_eq!(ids.len(), 3);
    for (arguments, count) in [
        (["--reason", "unstorable,malformed_json"], 2),
        (["--type", "cache_hit"], 2),
        (["--bom-id", "6f9619ff-8b86-4d01-b42d-00cf4fc964ff"], 1),
        (["--older-than", "1h"], 0),
        (["--newer-than", "1h"], 3),
        (["--limit", "2"], 2),
    ] {
        requeued().await;
        let listed = env.dlq_json(&[&["list"], &arguments[..]].concat());
        assert_eq!(listed.as_array().unwrap().len(), count, "{arguments:?}");
    }

    requeued().await;
    let shown = env.dlq_json(&["show", "nul"]);
    assert_eq!(shown["reason"], "unstorable");
    assert_eq!(shown["routing_key"], "cns.some.key");
    assert!(shown["body"].as_str().unwrap().contains(r"\u0000"), "as it came");
    requeued().await;
    let bad_bom = env.dlq_json(&["show", "bad-bom"])["id"].as_str().unwrap().to_owned();
    assert!(ids.contains(&bad_bom.as_str()));
    requeued().await;
    assert!(text(&env.dlq(&["show", &bad_bom[..8]]).stdout).contains("is not a UUID"));
    requeued().await;
    let unknown = env.dlq(&["show", "ffff"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(text(&unknown.stderr).contains("no dead letter has the id or event_id"));

    requeued().await;
    let lines = text(&env.dlq(&["export"]).stdout);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("letters.jsonl");
    std::fs::write(&file, "an earlier export").unwrap();
    let away = env
        .command()
        .env("CNS_EVENTS__AMQP__URI", "amqp://127.0.0.1:1/%2f")
        .args(["dlq", "export", "-o"])
        .arg(&file)
        .output()
        .unwrap();
    assert_eq!(away.status.code(), Some(1));
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "an earlier export", "replaced by a whole one only");
    requeued().await;
    assert!(env.dlq(&["export", "--output", file.to_str().unwrap()]).status.success());
    assert_eq!(std::fs::read_to_string(&file).unwrap().lines().count(), 3);
    let exported: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(exported.len(), 3);
    let not_json = exported.iter().find(|letter| letter["body"] == "not json").unwrap();
    assert_eq!(not_json["headers"]["x-cns-reason"], "malformed_json");
    requeued().await;
    let again = env.dlq_json(&["list"]);
    assert_eq!(again, list, "looking costs nothing");
}

/// Corrected dead letters are stored; the others come back with a count. A replay loses nothing.
#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_replayed() {
    let env = with_three_letters("dlqreplay").await;
    let planned = env.dlq_json(&["replay", "--all", "--dry-run"]);
    assert_eq!(planned["would_replay"].as_array().unwrap().len(), 3);
    eventually("3 are in it", async || env.depth(&env.dead_letter_queue()).await.0 == 3).await;

    // One of them, by its event_id.
    let replayed = env.dlq_json(&["replay", "nul"]);
    assert_eq!(replayed["replayed"].as_array().unwrap().len(), 1);
    eventually("2 are in it", async || env.depth(&env.dead_letter_queue()).await.0 == 2).await;
    eventually("1 are in it", async || env.depth(&env.queue()).await.0 == 1).await;

    for replays in 1..=2 {
        let mut worker = env.worker().await;
        eventually("it is back", async || env.depth(&env.dead_letter_queue()).await.0 == 3).await;
        assert!(worker.terminate().await.success());
        let letter = env.dlq_json(&["show", "nul"]);
        assert_eq!(letter["replays"], replays);
        assert_eq!(letter["routing_key"], "cns.some.key");
        if replays == 1 {
            assert!(env.dlq(&["replay", "--id", "nul"]).status.success());
        }
    }

    // A rate is kept: three letters at two a second take a second at least.
    let started = std::time::Instant::now();
    let replayed = env.dlq_json(&["replay", "--all", "--rate", "2"]);
    assert_eq!(replayed["replayed"].as_array().unwrap().len(), 3);
    assert!(started.elapsed() > std::time::Duration::from_secs(1));
    eventually("0 are in it", async || env.depth(&env.dead_letter_queue()).await.0 == 0).await;
}

/// A good message that the broker had dead-lettered is stored under its own key after a replay.
#[tokio::test(flavor = "multi_thread")]
async fn corrected_dead_letters_are_stored() {
    let env = TestEnv::new("dlqmended").await;
    let refuse = "alter table enrichment_events add constraint no_poison check (event_id <> 'p')";
    env.sql.batch_execute(refuse).await.unwrap();
    let worker = env.worker().await;
    env.publish_with(event("p").as_bytes(), "cns.cache.hit", BasicProperties::default()).await;
    env.publish(event("good").as_bytes()).await;
    eventually("it is a letter", async || env.depth(&env.dead_letter_queue()).await.0 == 1).await;
    env.sql.batch_execute("alter table enrichment_events drop constraint no_poison").await.unwrap();
    let output = env.dlq(&["replay", "--reason", "database_rejected"]);
    assert_eq!(text(&output.stdout), "replayed: 1, left: 0\n");
    eventually("it is stored", async || env.rows().await == 2).await;
    let key = "select count(*) from enrichment_events where event_id = 'p' and routing_key = 'cns.cache.hit'";
    assert_eq!(env.number(key).await, 1);
    assert_eq!(worker.metric_value("cns_events_duplicates_total"), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn purging_dead_letters_needs_a_confirmation() {
    let env = with_three_letters("dlqpurge").await;
    for (arguments, said) in [
        (&["purge", "--all"][..], "confirm with --yes"),
        (&["purge", "--yes"], "select all of them with --all"),
        (&["purge", "--yes", "--dry-run"], "select all of them with --all"),
        (&["replay"], "select all of them with --all"),
        (&["replay", "--rate", "5", "--json"], "select all of them with --all"),
        (&["purge", "--yes", ""], "value is required"),
        (&["purge", "--yes", "ab"], "no dead letter has the id or event_id"),
    ] {
        let refused = env.dlq(arguments);
        assert!(!refused.status.success() && text(&refused.stderr).contains(said), "{refused:?}");
    }
    assert!(text(&env.dlq(&["purge", "--all", "--dry-run"]).stdout).contains("would purge 3"));
    eventually("3 are in it", async || env.depth(&env.dead_letter_queue()).await.0 == 3).await;
    assert_eq!(env.dlq_json(&["purge", "--yes", "--reason", "unstorable"])["purged"], 1);
    let output = env.dlq(&["purge", "--yes", "nothing-like-it"]);
    assert_eq!(output.status.code(), Some(1));
    eventually("2 are in it", async || env.depth(&env.dead_letter_queue()).await.0 == 2).await;
    assert_eq!(env.dlq(&["purge", "--yes", "--all", "--reason", "unstorable"]).status.code(), Some(2));
    assert!(env.dlq(&["purge", "--yes", "--all"]).status.success());
    eventually("0 are in it", async || env.depth(&env.dead_letter_queue()).await.0 == 0).await;
    assert_eq!(text(&env.dlq(&["list"]).stdout), "no dead letters\n");
}

/// Letters that no careful client would write: texts that are no UTF-8, keys that no queue takes.
#[tokio::test(flavor = "multi_thread")]
async fn foreign_messages_in_the_queue_do_not_stop_the_dlq_commands() {
    let env = TestEnv::new("dlqodd").await;
    let missing = env.dlq(&["list"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(text(&missing.stderr).contains("a worker declares it"), "{missing:?}");
    env.declare().await;
    let mut channel = ConfirmChannel::open(&BrokerEndpoint::new(&amqp_url(), "test").unwrap()).await.unwrap();
    let unreadable = RawMessage {
        routing_key: b"cns.\xff".to_vec(),
        properties: RawProperties::parse(b"\x10\x80\x02\x02\xff\xfe").unwrap().to_owned(),
        body: b"\x00\xff binary \x1b[31m".to_vec(),
    };
    let elsewhere = RawMessage {
        routing_key: b"elsewhere".to_vec(),
        properties: RawProperties::default().with_text(Property::Type, "\u{1b}[31mred"),
        body: event("elsewhere").into_bytes(),
    };
    let published = channel.publish(&format!("{}.dlx", env.name), &[unreadable, elsewhere]).await.unwrap();
    assert_eq!(published, [Published::Confirmed, Published::Confirmed]);
    env.publish(event("good").as_bytes()).await;

    let list = env.dlq_json(&["list"]);
    assert_eq!(list[0]["reason"], "invalid_field", "{list}");
    assert_eq!(list[1]["reason"], "unrouted");
    assert!(!text(&env.dlq(&["list"]).stdout).contains('\u{1b}'), "nothing a terminal acts on");
    let id = list[0]["id"].as_str().unwrap();
    let shown = env.dlq_json(&["show", id]);
    assert_eq!(shown["body_hex"], "00ff2062696e617279201b5b33316d");
    assert_eq!(shown["routing_key_hex"], "636e732eff");
    assert!(shown["properties_hex"].as_str().unwrap().ends_with("0202fffe"), "{shown}");
    let replay = env.dlq(&["replay", "--all"]);
    assert_eq!(replay.status.code(), Some(1));
    let said = text(&replay.stderr);
    assert!(said.contains("routing_key is not UTF-8") && said.contains("no queue takes"), "{said}");
    assert_eq!(text(&replay.stdout), "replayed: 0, left: 2\n");
    eventually("2 are in it", async || env.depth(&env.dead_letter_queue()).await.0 == 2).await;
    eventually("1 are in it", async || env.depth(&env.queue()).await.0 == 1).await;
}

/// Properties that the worker moved into headers are shown, and do not disturb a replay.
#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_dead_letter_has_no_expiration() {
    let env = TestEnv::new("dlqexpire").await;
    let mut worker = env.worker().await;
    let user = url::Url::parse(&amqp_url()).unwrap().username().to_owned();
    let properties =
        BasicProperties::default().with_expiration("60000".into()).with_user_id(user.into()).with_priority(7);
    env.publish_with(b"not json", "cns.x", properties).await;
    eventually("it is a letter", async || env.depth(&env.dead_letter_queue()).await.0 == 1).await;
    assert!(worker.terminate().await.success());
    assert!(env.dlq(&["replay", "--all"]).status.success());
    let copy = env.channel.basic_get(env.queue().into(), Default::default()).await.unwrap().unwrap();
    assert_eq!((copy.properties.expiration(), copy.properties.user_id()), (&None, &None));
    assert_eq!(*copy.properties.priority(), Some(7));
    assert_eq!(header(&copy, "x-cns-expiration").as_deref(), Some("60000"));
    assert_eq!(header(&copy, "x-cns-reason"), None);
    assert_eq!(header(&copy, "x-cns-replays").as_deref(), Some("LongLongInt(1)"));
    assert_eq!(copy.data, b"not json");
}

/// A message that came by another exchange has a key that `cns.events` does not route: it is replayed into the queue itself.
#[tokio::test(flavor = "multi_thread")]
async fn a_message_of_another_exchange_is_replayed_into_the_queue() {
    let env = TestEnv::new("dlqother").await;
    let mut worker = env.worker().await;
    for body in ["not json", "[]"] {
        // The exchange without a name delivers to the queue that the key names.
        let publish = env.channel.basic_publish(
            "".into(),
            env.queue().into(),
            Default::default(),
            body.as_bytes(),
            BasicProperties::default(),
        );
        publish.await.unwrap().await.unwrap();
    }
    eventually("they are letters", async || env.depth(&env.dead_letter_queue()).await.0 == 2).await;
    assert!(worker.terminate().await.success());
    let refused = env.dlq(&["replay", "--all"]);
    assert!(text(&refused.stderr).contains("hint: if it came by another exchange"), "{refused:?}");
    assert_eq!(text(&refused.stdout), "replayed: 0, left: 2\n");
    let replayed = env.dlq(&["replay", "--all", "--to-queue"]);
    assert_eq!(text(&replayed.stdout), "replayed: 2, left: 0\n", "{replayed:?}");
    eventually("they are in the queue", async || env.depth(&env.queue()).await.0 == 2).await;
}
