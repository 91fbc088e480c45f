//! The read API as its callers, its operators and its attackers meet it.

use std::io::Write;
use std::net::TcpStream;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::env::api_server::ApiServer;
use crate::env::http::{read_response, request};
use crate::env::relay::Relay;
use crate::env::tokens::{How, Issuer, SECRET, b64, claims, token};
use crate::env::{TestEnv, event, eventually};

/// Rows of one tenant, in one BOM and workflow.
pub async fn fill(env: &TestEnv, tenant: Uuid, rows: i32) -> Uuid {
    let bom = Uuid::new_v4();
    let insert = "insert into enrichment_events (event_id, event_type, bom_id, tenant_id, source, workflow_id, payload, created_at) \
                  select gen_random_uuid(), case when n % 2 = 0 then 'error' else 'x' end, $1, $2, 'customer', 'w/1 ü', \
                  jsonb_build_object('text', repeat('long ', 100)), now() - make_interval(secs => n) from generate_series(1, $3) n";
    env.sql.execute(insert, &[&bom, &tenant, &rows]).await.unwrap();
    bom
}

/// An event goes in by the broker and comes out by HTTP with all of its columns.
#[tokio::test(flavor = "multi_thread")]
async fn published_events_are_read_over_http() {
    let env = TestEnv::new("api").await;
    let _worker = env.worker().await;
    env.publish(event("read-me").as_bytes()).await;
    eventually("it is stored", async || env.rows().await == 1).await;
    let served = ApiServer::start(&env, |_| {}).await;
    let token = token(cns_events::event::tenant_of("org-1"));
    let page = served.get("/v1/boms/6f9619ff-8b86-4d01-b42d-00cf4fc964ff/events", &token);
    let [read] = &page.events()[..] else { panic!("{page:?}") };
    let columns: Vec<&String> = read.as_object().unwrap().keys().collect();
    let expected = [
        "bom_id",
        "created_at",
        "event_id",
        "event_type",
        "id",
        "organization_id",
        "payload",
        "project_id",
        "routing_key",
        "source",
        "state",
        "tenant_id",
        "user_id",
        "workflow_id",
    ];
    assert_eq!(columns, expected);
    assert_eq!((&read["event_id"], &read["created_at"]), (&json!("read-me"), &json!("2026-01-02T03:04:05Z")));
    assert_eq!(
        (&read["payload"], &read["project_id"]),
        (&json!({"cache": "parts", "key": "read-me"}), &Value::Null)
    );
    assert_eq!(page.json()["next_cursor"], Value::Null);
    assert_eq!(served.get("/v1/workflows/w-1/events?limit=1", &token).events().len(), 1);
    assert_eq!(page.header("cache-control"), "no-store");
}

/// An invalid request is a 400 that names the parameter, never a 500.
#[tokio::test(flavor = "multi_thread")]
async fn invalid_requests_have_problems_of_their_own() {
    let env = TestEnv::new("questions").await;
    let (tenant, served) = (Uuid::new_v4(), ApiServer::start(&env, |_| {}).await);
    let bom = fill(&env, tenant, 30).await;
    let token = token(tenant);
    let long = "x".repeat(256);
    for (path, named) in [
        ("/v1/errors?limit=0", "limit"),
        ("/v1/errors?limit=1001", "limit"),
        ("/v1/errors?limit=-1", "limit"),
        ("/v1/errors?limit=99999999999999999999", "limit"),
        ("/v1/errors?limit=ten", "limit"),
        ("/v1/errors?limit=", "limit"),
        ("/v1/errors?limit=1&limit=2", "limit"),
        ("/v1/errors?hours=0", "hours"),
        ("/v1/errors?hours=8761", "hours"),
        ("/v1/errors?cursor=x", "cursor"),
        ("/v1/errors?cursor=", "cursor"),
        ("/v1/errors?tenant_id=x", "tenant_id"),
        ("/v1/boms/x/events", "bom_id"),
        (&format!("/v1/boms/{bom}/events?type="), "type"),
        (&format!("/v1/boms/{bom}/events?type=a,,b"), "type"),
        (&format!("/v1/boms/{bom}/events?type=%00"), "type"),
        (&format!("/v1/boms/{bom}/events?type={long}"), "type"),
        (&format!("/v1/boms/{bom}/events?type={}", ["a"; 51].join(",")), "type"),
        ("/v1/workflows/%00/events", "workflow_id"),
        ("/v1/workflows/%ff/events", "workflow_id"),
        (&format!("/v1/workflows/{long}/events"), "workflow_id"),
    ] {
        let answer = served.get(path, &token);
        assert_eq!(
            (answer.status, answer.header("content-type")),
            (400, "application/problem+json"),
            "{path}"
        );
        let problem = answer.json();
        assert!(problem["detail"].as_str().unwrap().contains(named), "{path}: {problem}");
        assert_eq!(
            (&problem["status"], &problem["type"]),
            (&json!(400), &json!("urn:cns-events:problem:invalid-parameter"))
        );
        assert_eq!(problem["request_id"].as_str().unwrap(), answer.header("x-request-id"));
    }
    for (path, found) in [
        (format!("/v1/boms/{bom}/events?type=error"), 15),
        (format!("/v1/boms/{bom}/events?type=error,x&limit=1000"), 30),
        (format!("/v1/boms/{}/events", Uuid::new_v4()), 0),
        ("/v1/workflows/w%2F1%20%C3%BC/events".to_owned(), 30),
        ("/v1/workflows/none/events".to_owned(), 0),
        ("/v1/workflows//events".to_owned(), 0),
        ("/v1/errors?hours=8760".to_owned(), 15),
    ] {
        assert_eq!(served.get(&path, &token).events().len(), found, "{path}");
    }
    // Pages by cursor, over the wire.
    let (mut path, mut seen) = (format!("/v1/boms/{bom}/events?limit=7"), 0);
    for _ in 0..5 {
        let page = served.get(&path, &token);
        seen += page.events().len();
        let Some(next) = page.json()["next_cursor"].as_str().map(str::to_owned) else { break };
        path = format!("/v1/boms/{bom}/events?limit=7&cursor={next}");
    }
    assert_eq!(seen, 30);
    // Other paths and methods.
    assert_eq!(served.request("GET", "/v1/boms", &[]).status, 404);
    for method in ["POST", "PUT", "DELETE", "PATCH", "TRACE"] {
        let refused = served.request(method, "/openapi.json", &[]);
        assert_eq!((refused.status, refused.header("allow")), (405, "GET,HEAD"), "{method}");
    }
    let head = served.request("HEAD", "/openapi.json", &[]);
    assert!(head.status == 200 && head.body.is_empty());
    assert_eq!(
        served.process.metric_value(r#"cns_events_api_requests_total{route="/v1/errors",status="400"}"#),
        12.0
    );
}

/// Replicas behind a balancer share nothing: each accepts the cursors of the others.
#[tokio::test(flavor = "multi_thread")]
async fn cursors_are_valid_on_every_replica() {
    let env = TestEnv::new("replicas").await;
    let tenant = Uuid::new_v4();
    let bom = fill(&env, tenant, 30).await;
    let replicas = [ApiServer::start(&env, |_| {}).await, ApiServer::start(&env, |_| {}).await];
    let (token, mut path) = (token(tenant), format!("/v1/boms/{bom}/events?limit=7"));
    let mut seen = std::collections::BTreeSet::new();
    for replica in replicas.iter().cycle().take(5) {
        let page = replica.get(&path, &token);
        seen.extend(page.events().iter().map(|event| event["id"].to_string()));
        let Some(next) = page.json()["next_cursor"].as_str().map(str::to_owned) else { break };
        path = format!("/v1/boms/{bom}/events?limit=7&cursor={next}");
    }
    assert_eq!(seen.len(), 30);
}

/// A request has an id, a caller's own where it is fit for a log; the answer to a stranger says what is missing.
#[tokio::test(flavor = "multi_thread")]
async fn responses_carry_request_ids_and_challenges() {
    let env = TestEnv::new("ids").await;
    let served = ApiServer::start(&env, |_| {}).await;
    let own = served.request("GET", "/v1/errors", &[("x-request-id", "from-the-balancer-1")]);
    assert_eq!((own.status, own.header("x-request-id")), (401, "from-the-balancer-1"));
    assert_eq!(own.header("www-authenticate"), "Bearer realm=\"cns-events\"");
    assert_eq!(own.json()["request_id"], "from-the-balancer-1");
    for odd in ["with space", &"x".repeat(129), "\u{fc}"] {
        let answer = served.request("GET", "/livez", &[("x-request-id", odd)]);
        assert!(Uuid::try_parse(answer.header("x-request-id")).is_ok(), "{odd}");
    }
    let bad = served.get("/v1/errors", "x.y.z");
    assert!(bad.header("www-authenticate").contains("error=\"invalid_token\""), "{bad:?}");
    let good = format!("Bearer {}", token(Uuid::new_v4()));
    let twice = served.request("GET", "/v1/errors", &[("authorization", &good), ("authorization", &good)]);
    assert_eq!(twice.status, 401, "which of two would it be?");
    assert_eq!(
        served.request("GET", "/v1/errors", &[("authorization", &good.replace("Bearer", "bEARER"))]).status,
        200
    );
    assert_eq!(
        served.request("GET", "/v1/errors", &[("authorization", &good.replace("Bearer", "Basic"))]).status,
        401
    );
    assert_eq!(served.process.metric_value(r#"cns_events_api_tokens_refused_total{reason="missing"}"#), 2.0);
}

/// gzip for who takes it, CORS for whom the configuration names.
#[tokio::test(flavor = "multi_thread")]
async fn responses_are_compressed_and_cors_is_configured() {
    let env = TestEnv::new("cors").await;
    let tenant = Uuid::new_v4();
    let served = ApiServer::start(&env, |command| {
        command.env("CNS_EVENTS__API__CORS_ORIGINS", "https://app.example.org, http://localhost:3000");
    })
    .await;
    fill(&env, tenant, 40).await;
    let authorization = format!("Bearer {}", token(tenant));
    let authorization = ("authorization", authorization.as_str());
    let plain = served.request("GET", "/v1/errors", &[authorization]);
    let zipped = served.request("GET", "/v1/errors", &[authorization, ("accept-encoding", "br, gzip;q=0.8")]);
    assert_eq!(zipped.header("content-encoding"), "gzip");
    assert!(zipped.body.len() * 5 < plain.body.len(), "{} of {}", zipped.body.len(), plain.body.len());
    // Who refuses both is given one of them all the same, and nothing that the document does not know.
    for odd in ["identity;q=0", "br;q=1.0, *;q=0", "identity; q=0, gzip;q=0"] {
        let answer = served.request("GET", "/v1/errors", &[authorization, ("accept-encoding", odd)]);
        assert_eq!((answer.status, answer.header("content-encoding")), (200, ""), "{odd}");
    }
    for (origin, allowed) in [
        ("https://app.example.org", "https://app.example.org"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("https://evil.example.org", ""),
        ("null", ""),
    ] {
        let asked = served.request("GET", "/v1/errors", &[authorization, ("origin", origin)]);
        assert_eq!(asked.header("access-control-allow-origin"), allowed);
        let preflight = [
            ("origin", origin),
            ("access-control-request-method", "GET"),
            ("access-control-request-headers", "authorization"),
        ];
        let answer = served.request("OPTIONS", "/v1/errors", &preflight);
        assert_eq!(answer.header("access-control-allow-origin"), allowed, "{origin}: {answer:?}");
        assert_eq!(answer.header("access-control-allow-credentials"), "", "tokens, not cookies");
    }
    let closed = ApiServer::start(&env, |_| {}).await;
    let asked = closed.request("GET", "/livez", &[("origin", "https://app.example.org")]);
    assert_eq!(asked.header("access-control-allow-origin"), "", "no origin by default");
}

/// The database goes and comes: 503 with a pause, not ready, and then all is well without a restart.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_outage_is_a_503_until_it_ends() {
    let env = TestEnv::new("apiout").await;
    let tenant = Uuid::new_v4();
    fill(&env, tenant, 10).await;
    let relay = Relay::before(&env.database_url).await;
    let served = ApiServer::spawn(&env, |command| {
        command.env("CNS_EVENTS__DATABASE__URL", relay.url(&env.database_url));
    })
    .await;
    let token = token(tenant);
    let away = served.request("GET", "/readyz", &[]);
    assert!(away.status == 503 && away.json()["reasons"]["database"].is_string(), "{away:?}");
    assert_eq!(served.request("GET", "/livez", &[]).status, 200);
    for _ in 0..2 {
        relay.open().await;
        eventually("it is ready", async || served.request("GET", "/readyz", &[]).status == 200).await;
        assert_eq!(served.get("/v1/errors", &token).events().len(), 5);
        relay.cut();
        let refused = served.get("/v1/errors", &token);
        assert_eq!((refused.status, refused.header("retry-after")), (503, "2"), "{refused:?}");
        assert_eq!(refused.header("content-type"), "application/problem+json");
        eventually("it is not ready", async || served.request("GET", "/readyz", &[]).status == 503).await;
    }
    assert_eq!(served.process.metric_value(r#"cns_events_up{peer="database"}"#), 0.0);
}

/// SIGTERM: what was asked is answered, what comes then is refused, and the exit code is 0.
#[tokio::test(flavor = "multi_thread")]
async fn sigterm_completes_running_requests() {
    let env = TestEnv::new("apistop").await;
    let tenant = Uuid::new_v4();
    fill(&env, tenant, 10).await;
    let mut served = ApiServer::start(&env, |_| {}).await;
    let lock = crate::env::connect(&env.database_url).await;
    lock.batch_execute("begin; lock table enrichment_events in access exclusive mode").await.unwrap();
    let mut stream = TcpStream::connect(served.address).unwrap();
    let authorization = format!("Bearer {}", token(tenant));
    stream.write_all(request("GET", "/v1/errors", &[("authorization", &authorization)]).as_bytes()).unwrap();
    let waiting = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock' and query like '%event_type%'";
    eventually("the question waits in the database", async || env.number(waiting).await > 0).await;
    // Who has asked nothing, or half of something, is not waited for (10 s, or 15).
    let _idle = TcpStream::connect(served.address).unwrap();
    let mut half = TcpStream::connect(served.address).unwrap();
    half.write_all(b"GET /livez HT").unwrap();
    eventually("they are there", async || served.process.metric_value("cns_events_api_connections") == 3.0)
        .await;
    let signalled = std::time::Instant::now();
    served.process.signal("-TERM");
    eventually("new connections are refused", async || TcpStream::connect(served.address).is_err()).await;
    lock.batch_execute("rollback").await.unwrap();
    assert_eq!(read_response(stream).events().len(), 5);
    assert!(served.process.ended().await.success());
    assert!(signalled.elapsed().as_secs() < 9, "{:?}", signalled.elapsed());
}

/// Keys are turned without a restart: a new one is taken, an old one is given up, and a broken file changes nothing.
#[tokio::test(flavor = "multi_thread")]
async fn tokens_signed_with_rotated_keys_are_accepted() {
    let env = TestEnv::new("keys").await;
    let (old, new) = (Issuer::new(), Issuer::new());
    let file = env.logs().join("jwks.json");
    // A key of another kind beside it costs nothing.
    let mut set = old.jwks();
    set["keys"]
        .as_array_mut()
        .unwrap()
        .push(json!({"kty": "OKP", "crv": "Ed25519", "x": "AAAA", "kid": "ed"}));
    std::fs::write(&file, set.to_string()).unwrap();
    let served = ApiServer::start(&env, |command| {
        command.env_remove("CNS_EVENTS__API__JWT_SECRET").env("CNS_EVENTS__API__JWKS_FILE", &file);
    })
    .await;
    let tenant = claims(Uuid::new_v4());
    let status = |token: &str| served.get("/v1/errors", token).status;
    let (by_old, by_new) = (old.good("ES256", &tenant), new.good("ES256", &tenant));
    assert_eq!((status(&by_old), status(&by_new)), (200, 401));
    assert_eq!(
        status(&old.sign(How::Hmac(SECRET.as_bytes()), &json!({"alg": "HS256"}), &tenant)),
        401,
        "there is no secret"
    );
    assert_eq!(
        status(&old.sign(How::Ec, &json!({"alg": "ES256"}), &tenant)),
        200,
        "a token need not name its key"
    );
    std::fs::write(&file, new.jwks().to_string()).unwrap();
    eventually("the new key is taken", async || status(&by_new) == 200).await;
    assert_eq!(status(&by_old), 401);
    std::fs::write(&file, "{\"keys\": [").unwrap();
    eventually("the broken file is logged", async || {
        served.process.log().contains("is not a JSON Web Key Set")
    })
    .await;
    assert_eq!(status(&by_new), 200);
}

/// Numbers with leading zeros are the same numbers; keys that cannot verify anything are refused when the set is loaded, by their
/// place; an empty set is a set.
#[tokio::test(flavor = "multi_thread")]
async fn key_sets_are_accepted_as_providers_write_them() {
    let env = TestEnv::new("keysets").await;
    let issuer = Issuer::new();
    let (n, e) = issuer.rsa_public();
    let file = env.logs().join("set.json");
    let start = async |set: &serde_json::Value| {
        std::fs::write(&file, set.to_string()).unwrap();
        ApiServer::start(&env, |command| {
            command.env_remove("CNS_EVENTS__API__JWT_SECRET").env("CNS_EVENTS__API__JWKS_FILE", &file);
        })
        .await
    };
    let rsa = |n: &[u8], e: &[u8]| json!({"kty": "RSA", "use": "sig", "n": b64(n), "e": b64(e)});
    let zeros = |number: &[u8], zeros: usize| [&vec![0; zeros][..], number].concat();
    let tenant = claims(Uuid::new_v4());
    for key in [rsa(&zeros(&n, 1), &e), rsa(&n, &zeros(&e, 1)), rsa(&zeros(&n, 3), &zeros(&e, 5))] {
        let served = start(&json!({ "keys": [key] })).await;
        assert_eq!(served.get("/v1/errors", &issuer.good("RS256", &tenant)).status, 200, "{key}");
    }
    let served = start(&json!({"keys": []})).await;
    assert_eq!(served.get("/v1/errors", &issuer.good("RS256", &tenant)).status, 401);
    assert!(served.process.log().contains("is an empty key set"));
    drop(served);

    let mut even = n.clone();
    *even.last_mut().unwrap() &= 0xfe;
    let point = |x: &[u8], y: &[u8]| json!({"kty": "EC", "crv": "P-256", "x": b64(x), "y": b64(y)});
    for (key, said) in [
        (rsa(&n, &[1]), "cannot verify anything"),
        (rsa(&n, &[0, 0]), "cannot verify anything"),
        (rsa(&n, &[4]), "cannot verify anything"),
        (rsa(&even, &e), "cannot verify anything"),
        (rsa(&zeros(&n[128..], 128), &e), "fewer than 2048"),
        (rsa(&[&n[..], &n, &n, &n, &n].concat(), &e), "more than 8192"),
        (point(&[1; 32], &[1; 32]), "no point of the curve"),
        (point(&[0; 32], &[0; 32]), "no point of the curve"),
        (point(&[1; 31], &[1; 32]), "no point of the curve"),
        (json!({"kty": "RSA", "n": "not base64!", "e": "AQAB"}), "is malformed"),
    ] {
        std::fs::write(&file, json!({ "keys": [key] }).to_string()).unwrap();
        let mut serve = env.command();
        serve.arg("serve").env_remove("CNS_EVENTS__API__JWT_SECRET");
        let output = serve.env("CNS_EVENTS__API__JWKS_FILE", &file).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(78), "{key}: {text}");
        assert!(text.contains("; key 1 ") && text.contains(said), "{key}: {text}");
    }
}

/// A configuration without keys is refused at start, with the fix.
#[tokio::test(flavor = "multi_thread")]
async fn serve_refuses_to_start_without_keys() {
    let env = TestEnv::new("apiconfig").await;
    let file = env.logs().join("set.json");
    let secret = json!({"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "s"}]});
    std::fs::write(&file, secret.to_string()).unwrap();
    let file = file.to_str().unwrap();
    for (key, value, said) in [
        ("JWT_SECRET", "", "neither is set"),
        ("JWKS_FILE", "/nonexistent", "cannot read the file"),
        ("JWKS_FILE", "Cargo.toml", "is not a JSON Web Key Set"),
        ("JWKS_FILE", file, "is a secret; set it as api.jwt_secret"),
        ("JWT_AUDIENCE", "", "must name the audience"),
        ("CORS_ORIGINS", "app.example.org", "is not an origin"),
        ("LISTEN", "127.0.0.1", "api.listen"),
        ("REQUEST_TIMEOUT_MS", "0", "must be at least 1"),
    ] {
        let output =
            env.command().arg("serve").env(format!("CNS_EVENTS__API__{key}"), value).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(78), "{key}={value}: {text}");
        assert!(text.contains(said), "{key}={value}: {text}");
    }
}

/// Logs hold no tokens, secrets or event contents, at the most verbose level.
#[tokio::test(flavor = "multi_thread")]
async fn logs_hold_no_tokens_secrets_or_events() {
    let env = TestEnv::new("apilogs").await;
    let (tenant, issuer) = (Uuid::new_v4(), Issuer::new());
    fill(&env, tenant, 10).await;
    let served = ApiServer::start(&env, |command| {
        command.env("CNS_EVENTS__LOG__LEVEL", "trace");
    })
    .await;
    let mut planted = claims(tenant);
    planted["sub"] = json!("planted-subject");
    let good = issuer.good("HS256", &planted);
    assert_eq!(served.get("/v1/errors", &good).events().len(), 5);
    let bad =
        issuer.sign(How::Hmac(b"planted-key"), &json!({"alg": "HS256", "kid": "planted-kid"}), &planted);
    assert_eq!(served.get("/v1/errors", &bad).status, 401);
    env.sql.batch_execute("alter table enrichment_events rename to away").await.unwrap();
    assert_eq!(served.get("/v1/errors", &good).status, 503);
    eventually("it is not ready", async || served.request("GET", "/readyz", &[]).status == 503).await;
    let log = served.process.log();
    assert!(log.contains("42P01") && log.contains("request_id"), "{log}");
    for secret in
        [SECRET, "planted", "long long", good.rsplit_once('.').unwrap().1, bad.rsplit_once('.').unwrap().1]
    {
        assert!(!log.contains(secret), "{secret}: {log}");
    }
    let said = served.request("GET", "/readyz", &[]);
    assert!(!String::from_utf8_lossy(&said.body).contains("planted"));
}

/// Prometheus' own checker has nothing to say about the metrics. It runs where promtool is installed.
#[tokio::test(flavor = "multi_thread")]
async fn metrics_of_serve_pass_promtool() {
    let env = TestEnv::new("apiprom").await;
    let served = ApiServer::start(&env, |_| {}).await;
    assert_eq!(served.get("/v1/errors", &token(Uuid::new_v4())).status, 200);
    let (status, metrics) = served.process.get("/metrics").unwrap();
    assert_eq!(status, 200);
    crate::env::promtool::assert_promtool_accepts(&metrics);
}
