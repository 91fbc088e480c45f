//! Ten thousand generated messages, good and bad mixed, through a real worker.

use std::collections::HashMap;

use fastrand::Rng;
use lapin::BasicProperties;

use crate::env::{TestEnv, eventually, header};

const MESSAGES: usize = 10_000;

/// Bound for the growth of a worker's memory in bytes: the allocator's own variation.
const FLAT: u64 = 24 * 1024 * 1024;

struct Good {
    id: String,
    state: String,
    payload: String,
}

/// A text with letters of every kind, escaped at random, without what PostgreSQL cannot hold.
fn text(rng: &mut Rng, longest: usize) -> String {
    let mut text = String::from("\"");
    for _ in 0..rng.usize(..=longest) {
        match rng.u8(..12) {
            0 => text.push_str(
                ["\\n", "\\t", "\\\"", "\\\\", "\\/", "\\u0001", "\\u00e9", "\\ud83d\\ude00"][rng.usize(..8)],
            ),
            1 => text.push(['é', 'ß', '中', '😀', '\u{7f}', '\u{ffff}', '\u{301}'][rng.usize(..7)]),
            _ => text.push(rng.alphanumeric()),
        }
    }
    text.push('"');
    text
}

fn number(rng: &mut Rng) -> String {
    match rng.u8(..6) {
        0 => rng.i64(..).to_string(),
        1 => format!("{:e}", rng.f64() * 1e9),
        2 => format!("-{}.{:09}", rng.u32(..), rng.u32(..1_000_000_000)),
        3 => format!("{}E{}{}", rng.u8(1..10), if rng.bool() { "+" } else { "-" }, rng.u32(..16_000)),
        4 => "-0.0".into(),
        _ => format!("1{}", "0".repeat(rng.usize(..300))),
    }
}

fn value(rng: &mut Rng, depth: usize) -> String {
    match rng.u8(..if depth == 0 { 5 } else { 8 }) {
        0 => "null".into(),
        1 => rng.bool().to_string(),
        2 => number(rng),
        3 | 4 => text(rng, 30),
        5 => {
            format!("[{}]", (0..rng.usize(..5)).map(|_| value(rng, depth - 1)).collect::<Vec<_>>().join(","))
        }
        _ => object(rng, depth - 1),
    }
}

fn object(rng: &mut Rng, depth: usize) -> String {
    let entries = (0..rng.usize(..8)).map(|_| format!("{}: {}", text(rng, 12), value(rng, depth)));
    format!("{{{}}}", entries.collect::<Vec<_>>().join(", "))
}

/// The members of a good event, in any order.
fn members(rng: &mut Rng, good: &Good) -> Vec<(&'static str, String)> {
    let uuid = || uuid::Uuid::new_v4();
    let mut members = vec![
        ("event_id", format!("\"{}\"", good.id)),
        (
            "event_type",
            ["\"cache_hit\"", "\"error\"", "\"risk_alert\"", "\"of_our_own\""][rng.usize(..4)].into(),
        ),
        ("bom_id", format!("\"{}\"", uuid())),
        ("organization_id", format!("\"o{}", &text(rng, 20)[1..])),
        ("state", good.state.clone()),
        ("payload", good.payload.clone()),
    ];
    let mut maybe = |name, value: String| {
        if rng.bool() {
            members.push((name, value));
        }
    };
    maybe("tenant_id", format!("\"{}\"", uuid()));
    maybe("project_id", "null".into());
    maybe("user_id", format!("\"{}\"", uuid()));
    maybe("source", "\"staff\"".into());
    maybe("created_at", "\"2026-01-02T03:04:05.678+01:00\"".into());
    maybe("something_else", "[{}]".into());
    rng.shuffle(&mut members);
    members
}

fn body(members: &[(&str, String)]) -> Vec<u8> {
    let entries: Vec<_> = members.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{{}}}", entries.join(",")).into_bytes()
}

/// A bad message, and the reason and field of its letter.
fn bad(rng: &mut Rng, good: &Good) -> (Vec<u8>, &'static str, Option<&'static str>) {
    let mut members = members(rng, good);
    let mut set = |name: &'static str, value: &str| {
        members.retain(|(known, _)| *known != name);
        members.push((name, value.to_owned()));
    };
    let (reason, field) = match rng.u8(..13) {
        0 => {
            let mut body = body(&members);
            body.truncate(rng.usize(1..body.len()));
            return (body, "malformed_json", None);
        }
        1 => {
            let mut body = body(&members);
            body.insert(rng.usize(1..body.len()), 0xff);
            return (body, "malformed_json", None);
        }
        2 => {
            members.retain(|(name, _)| *name != "bom_id");
            ("missing_field", Some("bom_id"))
        }
        3 => {
            members.retain(|(name, _)| *name != "event_type");
            ("missing_field", Some("event_type"))
        }
        4 => {
            members.retain(|(name, _)| *name != "tenant_id" && *name != "organization_id");
            ("missing_field", Some("tenant_id"))
        }
        5 => {
            set("bom_id", &text(rng, 40));
            ("invalid_field", Some("bom_id"))
        }
        6 => {
            set("user_id", &rng.u32(..).to_string());
            ("invalid_field", Some("user_id"))
        }
        7 => {
            set("event_id", &format!("\"{}\"", "é".repeat(rng.usize(256..400))));
            ("invalid_field", Some("event_id"))
        }
        8 => {
            set("payload", "[]");
            ("invalid_field", Some("payload"))
        }
        9 => {
            set("created_at", &text(rng, 30));
            ("invalid_field", Some("created_at"))
        }
        10 => {
            set("state", &format!("{{\"a\":[{}, \"\\u0000\"]}}", value(rng, 2)));
            ("unstorable", Some("state"))
        }
        11 => {
            set("payload", &format!("{{\"a\":{}, \"b\":1e{}}}", value(rng, 2), rng.u32(131_072..2_000_000)));
            ("unstorable", Some("payload"))
        }
        _ => {
            set("payload", &format!("{{\"a\":\"\\ud83d{}\"}}", rng.alphabetic()));
            ("unstorable", Some("payload"))
        }
    };
    (body(&members), reason, field)
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_random_messages_are_stored_or_dead_lettered_correctly() {
    let seed = fastrand::u64(..1_000_000);
    println!("seed {seed}");
    let mut rng = Rng::with_seed(seed);
    let env = TestEnv::new("generated").await;
    let worker = env.worker().await;
    let mut goods = Vec::new();
    // Two of them may be cut off at the same place.
    let mut bads: HashMap<Vec<u8>, Vec<(&str, Option<&str>)>> = HashMap::new();
    let mut bad_count = 0;
    let mut memory = Vec::new();
    for third in 0..3 {
        for number in 0..MESSAGES / 3 + 1 {
            let good = Good {
                id: format!("g-{seed}-{third}-{number}"),
                state: object(&mut rng, 2),
                payload: object(&mut rng, 3),
            };
            let body = if rng.u8(..4) == 0 {
                let (body, reason, field) = bad(&mut rng, &good);
                bads.entry(body.clone()).or_default().push((reason, field));
                bad_count += 1;
                body
            } else {
                let members = members(&mut rng, &good);
                goods.push(good);
                body(&members)
            };
            // Confirms are waited for by the thousand: the worker is at work meanwhile.
            env.publish_unconfirmed(body, "cns.generated", BasicProperties::default()).await;
        }
        env.wait_for_confirms().await;
        eventually("they are settled", async || {
            env.rows().await == goods.len() as i64
                && env.depth(&env.queue()).await.0 == 0
                && worker.metric_value("cns_events_in_flight") == 0.0
        })
        .await;
        memory.push(worker.memory());
    }
    assert!(memory[2] < memory[0] + FLAT, "seed {seed}: {memory:?}");
    assert!(goods.len() + bad_count >= MESSAGES);
    for _ in 0..bad_count {
        let letter = env.dead_letter().await;
        let published = bads.get_mut(&letter.data).and_then(Vec::pop);
        let (reason, field) = published.unwrap_or_else(|| panic!("seed {seed}: byte for byte"));
        assert_eq!(header(&letter, "x-cns-reason").as_deref(), Some(reason), "seed {seed}");
        assert_eq!(header(&letter, "x-cns-field").as_deref(), field, "seed {seed}");
    }
    assert_eq!(env.depth(&env.dead_letter_queue()).await.0, 0);
    // What is stored is what was published, as PostgreSQL compares it.
    let column = |of: fn(&Good) -> &String| goods.iter().map(|good| of(good).as_str()).collect::<Vec<_>>();
    let same = "select count(*) from enrichment_events e join unnest($1::text[], $2::text[], $3::text[]) \
                as g(id, state, payload) on e.event_id = g.id and e.state = g.state::jsonb and e.payload = g.payload::jsonb";
    let (ids, states, payloads) =
        (column(|good| &good.id), column(|good| &good.state), column(|good| &good.payload));
    let found: i64 = env.sql.query_one(same, &[&ids, &states, &payloads]).await.unwrap().get(0);
    assert_eq!(found, goods.len() as i64, "seed {seed}");
}
