//! Limits of the read API: oversized requests, floods, slow readers, a slow database; none of them is another tenant's
//! trouble.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use cns_events::http::ConnectionLimits;
use cns_events::metrics::ApiMetrics;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::api::requests::fill;
use crate::env::api_server::ApiServer;
use crate::env::http::{read_response, request};
use crate::env::tokens::token;
use crate::env::{TestEnv, eventually};

/// Large headers, bodies, half a request and nonsense: none of them holds up the others.
#[tokio::test(flavor = "multi_thread")]
async fn oversized_requests_are_rejected() {
    let env = TestEnv::new("bounds").await;
    let (tenant, served) = (Uuid::new_v4(), ApiServer::start(&env, |_| {}).await);
    fill(&env, tenant, 10).await;
    let token = token(tenant);
    let large = "x".repeat(100 * 1024);
    assert_eq!(served.request("GET", "/livez", &[("x-large", &large)]).status, 431);
    let many: Vec<(&str, &str)> = std::iter::repeat_n(("x-one", "1"), 80).collect();
    assert_eq!(served.request("GET", "/livez", &many).status, 431);
    for header in
        [("content-length", "1000000000"), ("content-length", "1"), ("transfer-encoding", "chunked")]
    {
        let body = served.request("GET", "/v1/errors", &[header]);
        assert_eq!(
            (body.status, body.header("content-type")),
            (413, "application/problem+json"),
            "{header:?}"
        );
    }
    assert_eq!(served.request("GET", "/livez", &[("content-length", "0")]).status, 200);
    let mut idle = Vec::new();
    for begun in ["", "GET /v1/err", "GET /v1/errors HTTP/1.1\r\nhost: x\r\nauthoriz"] {
        let mut stream = TcpStream::connect(served.address).unwrap();
        stream.write_all(begun.as_bytes()).unwrap();
        idle.push(stream);
    }
    assert_eq!(served.get("/v1/errors", &token).events().len(), 5);
    for nonsense in ["\x16\x03\x01\x02", "HELLO\r\n\r\n", "GET / HTTP/9.9\r\n\r\n"] {
        let mut stream = TcpStream::connect(served.address).unwrap();
        stream.write_all(nonsense.as_bytes()).unwrap();
        let mut said = Vec::new();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let _ = stream.read_to_end(&mut said);
        assert!(!String::from_utf8_lossy(&said).contains("200 OK"));
    }
    assert_eq!(served.get("/v1/errors", &token).events().len(), 5);
}

/// Connections that say nothing, and clients that take nothing, are closed in time; others wait for their place and get it.
#[tokio::test(flavor = "multi_thread")]
async fn idle_connections_and_slow_readers_are_closed() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let large = "x".repeat(64 * 1024 * 1024);
    let router = axum::Router::new()
        .route("/large", axum::routing::get(async move || large.clone()))
        .route("/small", axum::routing::get(async || "small"));
    let (metrics, shutdown) = (ApiMetrics::new(), CancellationToken::new());
    let second = Duration::from_secs(1);
    let limits = ConnectionLimits {
        max_connections: 2,
        first_byte_timeout: second,
        header_timeout: second,
        write_timeout: second,
    };
    let open = Some(metrics.connections.clone());
    let serving = tokio::spawn(cns_events::http::serve(listener, router, limits, open, shutdown.clone()));
    let connect = |said: &str| {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(said.as_bytes()).unwrap();
        stream
    };
    // One that says half of something and one that does not take what it asked for: there is no third place.
    let _silent = connect("GET /sm");
    let _greedy = connect(&request("GET", "/large", &[]));
    eventually("both are there", async || metrics.connections.get() == 2).await;
    let third = connect(&request("GET", "/small", &[]));
    let answered = tokio::task::spawn_blocking(|| read_response(third)).await.unwrap();
    assert_eq!(answered.body, b"small");
    eventually("both are closed", async || metrics.connections.get() == 0).await;
    shutdown.cancel();
    serving.await.unwrap();
}

/// One tenant's flood is that tenant's own trouble.
#[tokio::test(flavor = "multi_thread")]
async fn each_tenant_has_its_own_rate_limit() {
    let env = TestEnv::new("rate").await;
    let served = ApiServer::start(&env, |command| {
        command.env("CNS_EVENTS__API__RATE_LIMIT", "5");
    })
    .await;
    let (loud, quiet) = (token(Uuid::new_v4()), token(Uuid::new_v4()));
    let answers: Vec<_> = (0..40).map(|_| served.get("/v1/errors", &loud)).collect();
    let refused: Vec<_> = answers.iter().filter(|answer| answer.status == 429).collect();
    assert!(
        answers.iter().take(5).all(|answer| answer.status == 200),
        "a burst of a second's worth is let through"
    );
    assert!(refused.len() > 20, "{}", refused.len());
    assert_eq!((refused[0].header("retry-after"), refused[0].header("ratelimit-limit")), ("1", "5"));
    assert_eq!(refused[0].json()["type"], "urn:cns-events:problem:too-many-requests");
    assert_eq!(served.get("/v1/errors", &quiet).status, 200);
    let counted =
        served.process.metric_value(r#"cns_events_api_requests_total{route="/v1/errors",status="429"}"#);
    assert_eq!(counted as usize, refused.len());
}

/// A database that does not answer in time is a 503, and a caller who goes away in the middle leaves nothing behind.
#[tokio::test(flavor = "multi_thread")]
async fn slow_requests_time_out_and_disconnected_callers_are_dropped() {
    let env = TestEnv::new("slowapi").await;
    let (mine, other) = (Uuid::new_v4(), Uuid::new_v4());
    fill(&env, mine, 10).await;
    fill(&env, other, 20).await;
    let served = ApiServer::start(&env, |command| {
        command
            .env("CNS_EVENTS__DATABASE__POOL_SIZE", "1")
            .env("CNS_EVENTS__API__REQUEST_TIMEOUT_MS", "1500")
            .env("CNS_EVENTS__API__RATE_LIMIT", "0");
    })
    .await;
    let (mine, other) = (token(mine), token(other));
    let lock = crate::env::connect(&env.database_url).await;
    lock.batch_execute("begin; lock table enrichment_events in access exclusive mode").await.unwrap();
    let late = served.get("/v1/errors", &mine);
    assert!(late.status == 503 && late.json()["detail"].as_str().unwrap().contains("1500 ms"), "{late:?}");
    // Many who leave while their question waits in the database, or for the one connection.
    for _ in 0..20 {
        let mut stream = TcpStream::connect(served.address).unwrap();
        let authorization = format!("Bearer {mine}");
        stream
            .write_all(request("GET", "/v1/errors", &[("authorization", &authorization)]).as_bytes())
            .unwrap();
        drop(stream);
    }
    lock.batch_execute("rollback").await.unwrap();
    for _ in 0..20 {
        assert_eq!(served.get("/v1/errors", &other).events().len(), 10);
        assert_eq!(served.get("/v1/errors", &mine).events().len(), 5);
    }
    let waiting = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'";
    eventually("nothing waits in the database", async || env.number(waiting).await == 0).await;
}

/// A tenant with many readers who take nothing of large answers: memory stays bounded, and another tenant notices nothing.
#[tokio::test(flavor = "multi_thread")]
async fn slow_readers_of_one_tenant_do_not_block_another() {
    const MIB: u64 = 1024 * 1024;
    let env = TestEnv::new("slowreaders").await;
    let (crowd, other) = (Uuid::new_v4(), Uuid::new_v4());
    let large = "insert into enrichment_events (event_id, event_type, bom_id, tenant_id, source, payload) select n::text, 'x', $1, $1, 'customer', \
                 jsonb_build_object('text', repeat(md5(n::text), 30000)) from generate_series(1, 20) n";
    env.sql.execute(large, &[&crowd]).await.unwrap();
    fill(&env, other, 10).await;
    let served = ApiServer::start(&env, |command| {
        command.env("CNS_EVENTS__API__RATE_LIMIT", "0");
    })
    .await;
    let before = served.process.memory();
    let authorization = format!("Bearer {}", token(crowd));
    let asked = request("GET", &format!("/v1/boms/{crowd}/events"), &[("authorization", &authorization)]);
    let readers: Vec<TcpStream> = (0..100)
        .map(|_| {
            let mut stream = TcpStream::connect(served.address).unwrap();
            stream.write_all(asked.as_bytes()).unwrap();
            stream
        })
        .collect();
    eventually("answers wait to be taken", async || served.process.memory() > before + 20 * MIB).await;
    for _ in 0..20 {
        assert_eq!(served.get("/v1/errors", &token(other)).events().len(), 5);
        let grown = served.process.memory().saturating_sub(before) / MIB;
        assert!(grown < 250, "100 answers of 4 MiB take {grown} MiB");
    }
    // Those who take their answer get it, one after the other.
    for reader in readers.into_iter().take(20) {
        let page = tokio::task::spawn_blocking(|| read_response(reader)).await.unwrap();
        assert!(page.status == 503 || page.events().len() == 5, "{}", page.status);
    }
    eventually("the memory is given back", async || served.process.memory() < before + 40 * MIB).await;
}

/// A document that is small as it is sent and large as it is read back, from a writer that does not check: `1e131071` takes 8 bytes
/// in the statement and 131,072 in the answer. 16 slow readers of it take bounded memory.
#[tokio::test(flavor = "multi_thread")]
async fn slow_readers_of_numbers_that_grow_do_not_exhaust_the_memory() {
    const MIB: u64 = 1024 * 1024;
    let env = TestEnv::new("growing").await;
    let (greedy, other) = (Uuid::new_v4(), Uuid::new_v4());
    let numbers = format!("{{\"n\": [{}1]}}", "1e131071,".repeat(120));
    let insert = "insert into enrichment_events (event_id, event_type, bom_id, tenant_id, source, state, payload) \
                  values ('grows', 'x', $1, $1, 'customer', $2::text::jsonb, $2::text::jsonb)";
    env.sql.execute(insert, &[&greedy, &numbers]).await.unwrap();
    fill(&env, other, 10).await;
    let served = ApiServer::start(&env, |command| {
        command.env("CNS_EVENTS__API__RATE_LIMIT", "0");
    })
    .await;
    let before = served.process.memory();
    let authorization = format!("Bearer {}", token(greedy));
    let asked = request("GET", &format!("/v1/boms/{greedy}/events"), &[("authorization", &authorization)]);
    let mut readers: Vec<TcpStream> = (0..16)
        .map(|_| {
            let mut stream = TcpStream::connect(served.address).unwrap();
            stream.write_all(asked.as_bytes()).unwrap();
            stream
        })
        .collect();
    eventually("an answer waits to be taken", async || served.process.memory() > before + 30 * MIB).await;
    let mut most = 0;
    for _ in 0..20 {
        assert_eq!(served.get("/v1/errors", &token(other)).events().len(), 5);
        most = most.max(served.process.memory().saturating_sub(before) / MIB);
        tokio::time::sleep(Duration::from_millis(100)).await; // the readers' answers are built meanwhile
    }
    assert!(most < 350, "16 answers of 30 MiB take {most} MiB");
    let reader = readers.swap_remove(0);
    drop(readers);
    let page = tokio::task::spawn_blocking(|| read_response(reader)).await.unwrap();
    assert!(page.status == 503 || page.body.len() > 30_000_000, "{}", page.status);
}
