//! Nasty messages, one in each file of `tests/corpus/{end}/{field}/`: the folders say how it ends. `stored`, or the reason of
//! its dead letter and the field at fault (`-` for none).

use std::collections::BTreeMap;
use std::path::Path;

use chrono::Utc;
use cns_events::event::{PayloadPolicy, ReceivedMessage, Rules, decode};
use lapin::BasicProperties;

use crate::env::{TestEnv, event, eventually, header};

/// `worker.max_message_bytes` here: the files need not be larger than this.
const MAX_BYTES: usize = 200_000;

const RULES: Rules = Rules { max_message_bytes: MAX_BYTES, payload: PayloadPolicy::Warn };

struct Nasty {
    name: String,
    end: String,
    field: Option<String>,
    body: Vec<u8>,
}

fn corpus() -> Vec<Nasty> {
    let folders = |path: &Path| -> Vec<_> {
        let mut all: Vec<_> = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect();
        all.sort();
        all
    };
    let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
    let mut all = Vec::new();
    for end in folders(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")) {
        for field in folders(&end) {
            for file in folders(&field) {
                all.push(Nasty {
                    name: name(&file),
                    end: name(&end),
                    field: Some(name(&field)).filter(|field| field != "-"),
                    body: std::fs::read(&file).unwrap(),
                });
            }
        }
    }
    assert!(all.len() >= 200, "{}", all.len());
    all
}

#[test]
fn corpus_files_are_decoded_as_their_folder_says() {
    for Nasty { name, end, field, body } in corpus() {
        let incoming = ReceivedMessage {
            body: &body,
            routing_key: "cns.test",
            message_id: None,
            event_type: None,
            timestamp: None,
            received_at: Utc::now(),
        };
        match decode(&incoming, &RULES) {
            Ok(_) => assert_eq!(end, "stored", "{name}"),
            Err(rejection) => {
                let found = (rejection.reason.name(), rejection.field.as_deref());
                assert_eq!(found, (end.as_str(), field.as_deref()), "{name}: {rejection}");
                assert!(!rejection.detail.contains('\n') && !rejection.detail.is_empty(), "{name}");
            }
        }
    }
}

/// All of them through a real worker: what is stored can be read again, and each letter is its message byte for byte.
#[tokio::test(flavor = "multi_thread")]
async fn corpus_files_are_stored_or_dead_lettered_as_their_folder_says() {
    let env = TestEnv::new("corpus").await;
    let worker = env.start(|command| {
        command.env("CNS_EVENTS__WORKER__MAX_MESSAGE_BYTES", MAX_BYTES.to_string());
    });
    worker.ready().await;
    let corpus = corpus();
    for Nasty { body, .. } in &corpus {
        env.publish(body).await;
    }
    let good = corpus.iter().filter(|nasty| nasty.end == "stored").count();
    let mut bad: BTreeMap<&[u8], &Nasty> = corpus
        .iter()
        .filter(|nasty| nasty.end != "stored")
        .map(|nasty| (nasty.body.as_slice(), nasty))
        .collect();
    while !bad.is_empty() {
        let letter = env.dead_letter().await;
        let nasty = bad.remove(letter.data.as_slice()).expect("byte for byte one that was published");
        if nasty.end == "too_large" {
            // Skipped as it arrived, and left to the broker's own dead-lettering.
            assert_eq!(
                header(&letter, "x-first-death-reason").as_deref(),
                Some("rejected"),
                "{}",
                nasty.name
            );
            continue;
        }
        assert_eq!(header(&letter, "x-cns-reason").as_ref(), Some(&nasty.end), "{}", nasty.name);
        assert_eq!(header(&letter, "x-cns-field"), nasty.field, "{}", nasty.name);
    }
    eventually("the good ones are stored", async || env.rows().await == good as i64).await;
    eventually("nothing is in flight", async || worker.metric_value("cns_events_in_flight") == 0.0).await;
    assert_eq!(env.depth(&env.dead_letter_queue()).await.0, 0, "no letter for a good one");
    let readable =
        env.number("select count(length(state::text || payload::text)) from enrichment_events").await;
    assert_eq!(readable, good as i64);
    assert_eq!(worker.metric_value("cns_events_store_retries_total{reason=\"unknown\"}"), 0.0);
}

/// Values from properties and routing keys are checked like those of the body.
#[tokio::test(flavor = "multi_thread")]
async fn message_properties_are_checked_like_the_body() {
    let env = TestEnv::new("properties").await;
    let worker = env.worker().await;
    let without = |name: &str, text: &str| event(name).replace(text, "");
    let no_id = without("no-id", r#""event_id":"no-id","#);
    let no_type = without("no-type", r#""event_type":"cache_hit","#);
    let no_time = without("no-time", r#","created_at":"2026-01-02T03:04:05Z""#);
    let plain = BasicProperties::default;
    let long_key = format!("cns.{}", "k".repeat(251));
    let stored = [
        (no_id.clone(), "cns.test", plain().with_message_id("é".repeat(127).into())),
        (no_type.clone(), "cns.test", plain().with_type("t".repeat(100).into())),
        (no_time.clone(), "cns.test", plain().with_timestamp(0)),
        (no_time.replace("no-time", "far"), "cns.test", plain().with_timestamp(253_402_300_799)),
        (event("long-key"), &long_key, plain()),
        (event("dots"), "cns...", plain()),
        (event("other-id-than-the-property"), "cns.test", plain().with_message_id("different".into())),
    ];
    let refused = [
        (no_id.clone(), "cns.test", plain().with_message_id("".into()), "invalid_field", "message_id"),
        (no_id.clone(), "cns.test", plain().with_message_id("a\0b".into()), "unstorable", "message_id"),
        (no_type.clone(), "cns.test", plain().with_type("t".repeat(101).into()), "invalid_field", "type"),
        (no_type.clone(), "cns.test", plain().with_type("\0".into()), "unstorable", "type"),
        (no_time, "cns.test", plain().with_timestamp(u64::MAX), "invalid_field", "timestamp"),
        (event("nul-key"), "cns.\0", plain(), "unstorable", "routing_key"),
    ];
    for (body, key, properties) in &stored {
        env.publish_with(body.as_bytes(), key, properties.clone()).await;
    }
    eventually("the good ones are stored", async || env.rows().await == stored.len() as i64).await;
    for (body, key, properties, reason, field) in &refused {
        env.publish_with(body.as_bytes(), key, properties.clone()).await;
        let letter = env.dead_letter().await;
        assert_eq!(header(&letter, "x-cns-reason").as_deref(), Some(*reason), "{key:?} {properties:?}");
        assert_eq!(header(&letter, "x-cns-field").as_deref(), Some(*field), "{key:?} {properties:?}");
        assert_eq!(letter.data, body.as_bytes());
        assert_eq!(letter.routing_key.as_str(), *key);
    }
    eventually("nothing is in flight", async || worker.metric_value("cns_events_in_flight") == 0.0).await;
}
