//! Streams: what is stored, each once, on any replica, and nothing of another tenant.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::Utc;
use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use uuid::Uuid;

use crate::env::api_server::ApiServer;
use crate::env::sse::Sse;
use crate::env::tokens::{Issuer, claims, token};
use crate::env::{TestEnv, connect, event, eventually};

/// Inserts events of a tenant, in one statement.
async fn store(sql: &tokio_postgres::Client, tenant: Uuid, ids: &str, count: i32) {
    let insert = "insert into enrichment_events (event_id, event_type, bom_id, tenant_id, source, workflow_id, state, payload) \
        select $1 || n, case n % 2 when 0 then 'error' else 'cache_hit' end, '00000000-0000-4000-8000-00000000000b', $2, 'customer', \
        'w' || n % 3, '{}', jsonb_build_object('n', n) from generate_series(1, $3) n on conflict do nothing";
    sql.execute(insert, &[&ids, &tenant, &count]).await.unwrap();
}

/// Reads so many events; returns their ids in order, and the last position.
async fn take(stream: &mut Sse, count: usize) -> (Vec<String>, String) {
    let (mut ids, mut last) = (Vec::new(), String::new());
    while ids.len() < count {
        let event =
            tokio::time::timeout(Duration::from_secs(60), stream.event()).await.expect("an event comes");
        let event = event.expect("the stream is open");
        ids.push(event.data["event_id"].as_str().unwrap().to_owned());
        last = event.id;
    }
    (ids, last)
}

/// A stream begins now, gives an event as the other endpoints do, filters, and goes on after any id.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_gives_what_is_stored_and_goes_on_after_an_id() {
    let env = TestEnv::new("stream").await;
    let served = ApiServer::start(&env, |_| {}).await;
    let (tenant, other) = (Uuid::new_v4(), Uuid::new_v4());
    let token = token(tenant);
    store(&env.sql, tenant, "before", 5).await;
    let mut stream = Sse::open(served.address, "/v1/stream", &token, None).await.unwrap();
    assert_eq!(stream.status, 200);
    for words in ["content-type: text/event-stream", "cache-control: no-store", "x-accel-buffering: no"] {
        assert!(stream.head.contains(words), "{words}: {}", stream.head);
    }
    assert!(!stream.head.contains("content-encoding"), "{}", stream.head);
    let begun = stream.next().await.unwrap();
    assert_eq!(begun.event, "clock", "its id is where the stream begins");
    store(&env.sql, other, "other", 9).await;
    store(&env.sql, tenant, "a", 4).await;
    let first = stream.event().await.unwrap();
    let page = served.get("/v1/workflows/w1/events?limit=1000", &token).events();
    assert!(page.contains(&first.data), "as the other endpoints give it");
    let (rest, last) = take(&mut stream, 3).await;
    assert_eq!(rest, ["a2", "a3", "a4"]);
    store(&env.sql, tenant, "b", 2).await;
    assert_eq!(take(&mut stream, 2).await.0, ["b1", "b2"]);
    drop(stream);

    // After each id, by header and by parameter, on this replica and on another.
    let replica = ApiServer::start(&env, |_| {}).await;
    for (address, after, expected) in [
        (served.address, &begun.id, vec!["a1", "a2", "a3", "a4", "b1", "b2"]),
        (replica.address, &first.id, vec!["a2", "a3", "a4", "b1", "b2"]),
        (replica.address, &last, vec!["b1", "b2"]),
    ] {
        let mut by_header = Sse::open(address, "/v1/stream", &token, Some(after)).await.unwrap();
        assert_eq!(take(&mut by_header, expected.len()).await.0, expected);
        let mut by_parameter =
            Sse::open(address, &format!("/v1/stream?after={after}"), &token, None).await.unwrap();
        assert_eq!(take(&mut by_parameter, expected.len()).await.0, expected);
    }
    for (filter, expected) in [
        ("type=error", vec!["a2", "a4", "b2"]),
        ("workflow_id=w1", vec!["a1", "a4", "b1"]),
        ("workflow_id=w1&type=error,cache_hit", vec!["a1", "a4", "b1"]),
        ("bom_id=00000000-0000-4000-8000-00000000000b&type=error", vec!["a2", "a4", "b2"]),
    ] {
        let mut stream = Sse::open(served.address, &format!("/v1/stream?{filter}"), &token, Some(&begun.id))
            .await
            .unwrap();
        assert_eq!(take(&mut stream, expected.len()).await.0, expected, "{filter}");
    }
    // Another tenant's token with this tenant's positions gets its own events, and nothing of this tenant.
    let mut theirs =
        Sse::open(served.address, "/v1/stream", &crate::env::tokens::token(other), Some(&begun.id))
            .await
            .unwrap();
    assert!(take(&mut theirs, 9).await.0.iter().all(|id| id.starts_with("other")));
}

/// Parameters that cannot be, positions of nowhere, bounds, and the end of the token.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_has_bounds_and_says_them() {
    let env = TestEnv::new("streambounds").await;
    let served = ApiServer::start(&env, |command| {
        command.env("CNS_EVENTS__API__STREAMS", "3").env("CNS_EVENTS__API__STREAMS_PER_TENANT", "2");
    })
    .await;
    let tenant = Uuid::new_v4();
    let good = token(tenant);
    for (query, words) in [
        ("bom_id=x", "bom_id"),
        ("workflow_id=%00", "workflow_id"),
        ("type=", "type"),
        ("after=x", "position"),
        ("other=1", "other"),
    ] {
        let response = served.get(&format!("/v1/stream?{query}"), &good);
        let text = String::from_utf8_lossy(&response.body).into_owned();
        assert!(response.status == 400 && text.contains(words), "{query}: {text}");
    }
    assert_eq!(served.request("GET", "/v1/stream", &[]).status, 401);
    let open = async |token: &str| Sse::open(served.address, "/v1/stream", token, None).await.unwrap();
    let (first, second, third) = (open(&good).await, open(&good).await, open(&good).await);
    assert_eq!((first.status, second.status, third.status), (200, 200, 429));
    assert!(third.head.contains("retry-after"), "{}", third.head);
    let others = token(Uuid::new_v4());
    let (fourth, fifth) = (open(&others).await, open(&others).await);
    assert_eq!((fourth.status, fifth.status), (200, 429));
    assert_eq!(served.process.metric_value(r#"cns_events_streams{kind="sse"}"#), 3.0);
    drop((first, second, third, fourth, fifth));
    eventually("they are counted off", async || {
        served.process.metric_value(r#"cns_events_streams{kind="sse"}"#) == 0.0
    })
    .await;

    // A stream ends with its token.
    let mut short = claims(tenant);
    short["exp"] = json!(Utc::now().timestamp() + 3);
    let mut stream = open(&Issuer::new().good("HS256", &short)).await;
    assert_eq!(stream.next().await.unwrap().event, "clock");
    assert!(stream.next().await.is_none());

    // A position of another cluster, and one that the journal is pruned past.
    let mut stream = open(&good).await;
    let here = stream.next().await.unwrap().id;
    drop(stream);
    let position: cns_events::store::journal::Position = here.parse().unwrap();
    let mut elsewhere = position.clone();
    elsewhere.epoch.timeline += 1;
    env.sql.batch_execute("update enrichment_journal_state set journal_pruned_to = '1000'").await.unwrap();
    let mut old = position;
    old.passed = "500:500:".parse().unwrap();
    for (position, words) in [(elsewhere, "another one"), (old, "pruned")] {
        let mut stream =
            Sse::open(served.address, "/v1/stream", &good, Some(&position.to_string())).await.unwrap();
        let reset = stream.next().await.unwrap();
        assert!(
            reset.event == "reset" && reset.data["reason"].as_str().unwrap().contains(words),
            "{reset:?}"
        );
        store(&env.sql, tenant, words, 1).await;
        assert_eq!(take(&mut stream, 1).await.0.len(), 1, "it goes on from now");
    }
}

/// Two replicas, four writers of which some commit late or never, and a watcher that is cut again and again: what it saw is what is
/// stored, each once.
#[tokio::test(flavor = "multi_thread")]
async fn cuts_and_swaps_lose_nothing_and_repeat_nothing() {
    let env = TestEnv::new("streamswaps").await;
    let mut replicas = [ApiServer::start(&env, |_| {}).await, ApiServer::start(&env, |_| {}).await];
    let tenant = Uuid::new_v4();
    let token = token(tenant);
    let mut stream = Sse::open(replicas[0].address, "/v1/stream", &token, None).await.unwrap();
    let mut last = stream.next().await.unwrap().id;
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let url = env.database_url.clone();
            tokio::spawn(async move {
                let client = connect(&url).await;
                for batch in 0..50 {
                    client.batch_execute("begin").await.unwrap();
                    store(&client, tenant, &format!("w{writer}-{batch}-"), 20).await;
                    store(&client, Uuid::new_v4(), &format!("o{writer}-{batch}-"), 3).await;
                    // Others commit meanwhile: that is the fault that is tried.
                    tokio::time::sleep(Duration::from_millis(if writer == 0 { 120 } else { 10 })).await;
                    let end = if (batch + writer) % 7 == 6 { "rollback" } else { "commit" };
                    client.batch_execute(end).await.unwrap();
                }
            })
        })
        .collect();
    let mut seen: BTreeMap<String, u32> = BTreeMap::new();
    for swap in 0..40_usize {
        let until = tokio::time::Instant::now() + Duration::from_millis(100 + (swap as u64 * 53) % 150);
        while let Ok(Some(event)) = tokio::time::timeout_at(until, stream.next()).await {
            assert_ne!(event.event, "reset", "{event:?}");
            last = event.id;
            if event.event == "event" {
                *seen.entry(event.data["event_id"].as_str().unwrap().to_owned()).or_default() += 1;
            }
        }
        if swap % 10 == 9 {
            // A replica is killed, and another takes its place.
            let place = swap / 10 % 2;
            replicas[place].process.child.kill().unwrap();
            replicas[place] = ApiServer::start(&env, |_| {}).await;
        }
        stream = Sse::open(replicas[swap % 2].address, "/v1/stream", &token, Some(&last)).await.unwrap();
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let stored = env
        .sql
        .query("select event_id::text from enrichment_events where tenant_id = $1", &[&tenant])
        .await
        .unwrap();
    while seen.len() < stored.len() {
        let event = tokio::time::timeout(Duration::from_secs(30), stream.event())
            .await
            .expect("nothing is missed")
            .unwrap();
        *seen.entry(event.data["event_id"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    assert!(
        stored.iter().all(|row| seen.get(row.get::<_, &str>(0)) == Some(&1)),
        "{:?}",
        seen.iter().find(|(_, times)| **times > 1)
    );
    assert_eq!(seen.len(), stored.len());
}

/// A watcher that reads nothing, while others of its tenant and of others read all.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_watcher_holds_up_nobody() {
    let env = TestEnv::new("streamslow").await;
    let served = ApiServer::start(&env, |_| {}).await;
    let (tenant, other) = (Uuid::new_v4(), Uuid::new_v4());
    let mut slow = Sse::open(served.address, "/v1/stream", &token(tenant), None).await.unwrap();
    let begun = slow.next().await.unwrap();
    assert_eq!(begun.event, "clock");
    let mut quick = Sse::open(served.address, "/v1/stream", &token(tenant), Some(&begun.id)).await.unwrap();
    let mut others = Sse::open(served.address, "/v1/stream", &token(other), Some(&begun.id)).await.unwrap();
    for batch in 0..40 {
        store(&env.sql, tenant, &format!("b{batch}-"), 500).await;
        store(&env.sql, other, &format!("o{batch}-"), 1).await;
    }
    assert_eq!(take(&mut quick, 20_000).await.0.len(), 20_000);
    assert_eq!(take(&mut others, 40).await.0.len(), 40);
    let (ids, _) = take(&mut slow, 20_000).await;
    let distinct: std::collections::BTreeSet<_> = ids.iter().collect();
    assert_eq!(distinct.len(), 20_000, "it continues from its own position");
}

/// The same stream over WebSocket, with the token in each of its places.
#[tokio::test(flavor = "multi_thread")]
async fn a_web_socket_is_the_same_stream() {
    let env = TestEnv::new("streamws").await;
    let served = ApiServer::start(&env, |_| {}).await;
    let tenant = Uuid::new_v4();
    let good = token(tenant);
    let url = format!("ws://{}/v1/stream/ws", served.address);
    let mut sse = Sse::open(served.address, "/v1/stream", &good, None).await.unwrap();
    let begun = sse.next().await.unwrap().id;
    store(&env.sql, tenant, "a", 3).await;
    for place in ["protocol", "message", "header"] {
        let mut request = format!("{url}?after={begun}&type=cache_hit").into_client_request().unwrap();
        let headers = request.headers_mut();
        let protocols = if place == "protocol" {
            format!("cns-events.v1, bearer.{good}")
        } else {
            "cns-events.v1".to_owned()
        };
        headers.insert("sec-websocket-protocol", protocols.parse().unwrap());
        if place == "header" {
            headers.insert("authorization", format!("Bearer {good}").parse().unwrap());
        }
        let (mut socket, response) = connect_async(request).await.unwrap();
        assert_eq!(response.headers()["sec-websocket-protocol"], "cns-events.v1");
        if place == "message" {
            socket.send(Message::text(json!({ "token": good }).to_string())).await.unwrap();
        }
        let mut ids = Vec::new();
        while ids.len() < 2 {
            let Message::Text(text) = socket.next().await.unwrap().unwrap() else { continue };
            let message: Value = serde_json::from_str(&text).unwrap();
            if message["event"] == "event" {
                ids.push(message["data"]["event_id"].as_str().unwrap().to_owned());
                assert!(
                    message["id"].as_str().unwrap().parse::<cns_events::store::journal::Position>().is_ok()
                );
            }
        }
        assert_eq!(ids, ["a1", "a3"], "{place}");
    }
    // A token that is refused: before the upgrade, or by a close.
    let mut request = url.clone().into_client_request().unwrap();
    request.headers_mut().insert("sec-websocket-protocol", "cns-events.v1, bearer.x.y.z".parse().unwrap());
    assert!(connect_async(request).await.unwrap_err().to_string().contains("401"));
    let (mut socket, _) = connect_async(&url).await.unwrap();
    socket.send(Message::text(json!({ "token": "x" }).to_string())).await.unwrap();
    let Some(Ok(Message::Close(Some(frame)))) = socket.next().await else { panic!("it is closed") };
    assert_eq!(u16::from(frame.code), 4401, "{frame:?}");
    let plain = served.get("/v1/stream/ws", &good);
    assert_eq!(plain.status, 400, "{}", String::from_utf8_lossy(&plain.body));
}

/// A worker's notice wakes a stream; and without a broker a stream looks by itself.
#[tokio::test(flavor = "multi_thread")]
async fn notices_wake_streams_and_are_not_needed() {
    let env = TestEnv::new("streamnotice").await;
    let worker = env.worker().await;
    let served = ApiServer::start(&env, |_| {}).await;
    let without = ApiServer::start(&env, |command| {
        command.env("CNS_EVENTS__AMQP__URI", "amqp://nobody:x@127.0.0.1:1/");
    })
    .await;
    let token = token(cns_events::event::tenant_of("org-1"));
    let mut stream = Sse::open(served.address, "/v1/stream", &token, None).await.unwrap();
    let mut alone = Sse::open(without.address, "/v1/stream", &token, None).await.unwrap();
    assert_eq!(
        (stream.next().await.unwrap().event, alone.next().await.unwrap().event),
        ("clock".to_owned(), "clock".to_owned())
    );
    let mut quick = 0;
    for number in 0..10 {
        env.publish(event(&format!("e{number}")).as_bytes()).await;
        let published = std::time::Instant::now();
        assert_eq!(take(&mut stream, 1).await.0, [format!("e{number}")]);
        // Without notices it would be two seconds, and one on average.
        quick += u32::from(published.elapsed() < Duration::from_millis(900));
    }
    assert!(quick >= 8, "{quick} of 10 were woken");
    assert_eq!(take(&mut alone, 10).await.0.len(), 10);
    assert_eq!(worker.metric_value("cns_events_in_flight"), 0.0);
}
