//! No tenant ever sees another's rows over HTTP: every endpoint, with every kind of cursor and token. By SQL: `roles`.

use chrono::Utc;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::env::TestEnv;
use crate::env::api_server::ApiServer;
use crate::env::tokens::{How, Issuer, SECRET, claims};

/// Rows of three tenants: a BOM and a workflow of each, and one of each whose id all of them use.
pub struct Rows {
    pub tenants: [Uuid; 3],
    pub boms: [Uuid; 4],
    pub workflows: [&'static str; 4],
}

impl Rows {
    /// Of each tenant 40 events in its own BOM and 40 in the shared one, a quarter of them errors, at the same moments.
    pub async fn fill(env: &TestEnv) -> Rows {
        let rows = Rows {
            tenants: std::array::from_fn(|_| Uuid::new_v4()),
            boms: std::array::from_fn(|_| Uuid::new_v4()),
            workflows: ["w-0", "w-1", "w-2", "w-shared"],
        };
        for (number, tenant) in rows.tenants.iter().enumerate() {
            for of in [number, 3] {
                let insert = "insert into enrichment_events (event_id, event_type, bom_id, tenant_id, organization_id, source, \
                              workflow_id, payload, created_at) select gen_random_uuid(), case when n % 4 = 0 then 'error' else \
                              'cache_hit' end, $1, $2, 'org', 'customer', $3, jsonb_build_object('secret', $2::uuid), \
                              now() - make_interval(secs => n / 2) from generate_series(1, 40) n";
                env.sql.execute(insert, &[&rows.boms[of], tenant, &rows.workflows[of]]).await.unwrap();
            }
        }
        rows
    }

    /// Returns every request about every tenant's rows.
    fn questions(&self) -> Vec<String> {
        let boms = self.boms.iter().map(|bom| format!("/v1/boms/{bom}/events?"));
        let some = self.boms.iter().map(|bom| format!("/v1/boms/{bom}/events?type=error,cache_hit&"));
        let workflows = self.workflows.iter().map(|workflow| format!("/v1/workflows/{workflow}/events?"));
        boms.chain(some).chain(workflows).chain(["/v1/errors?hours=8760&".to_owned()]).collect()
    }

    /// Returns true if this tenant has rows that match the request.
    fn has(&self, tenant: usize, question: &str) -> bool {
        let own = [
            &self.boms[tenant].to_string(),
            &self.boms[3].to_string(),
            self.workflows[tenant],
            "w-shared",
            "/v1/errors",
        ];
        own.iter().any(|own| question.contains(*own))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_request_returns_another_tenants_rows() {
    let env = TestEnv::new("matrix").await;
    let rows = Rows::fill(&env).await;
    let (login, url) = env.login("in role authenticated").await;
    let issuer = Issuer::new();
    let jwks = env.logs().join("jwks.json");
    std::fs::write(&jwks, issuer.jwks().to_string()).unwrap();
    let served = ApiServer::start(&env, |command| {
        command
            .env("CNS_EVENTS__DATABASE__URL", &url)
            .env("CNS_EVENTS__API__JWKS_FILE", &jwks)
            .env("CNS_EVENTS__API__JWT_ISSUER", "https://issuer")
            .env("CNS_EVENTS__API__RATE_LIMIT", "0");
    })
    .await;
    let good = |tenant: Uuid| {
        let mut claims = claims(tenant);
        claims["iss"] = "https://issuer".into();
        claims
    };

    // Every tenant, told in each way, signed in each way, asks about everything, from everywhere on.
    let cursors: Vec<String> = (0..3)
        .map(|tenant| {
            let path = format!("/v1/boms/{}/events?limit=3", rows.boms[3]);
            let answer = served.get(&path, &issuer.good("HS256", &good(rows.tenants[tenant])));
            answer.json()["next_cursor"].as_str().unwrap().to_owned()
        })
        .collect();
    let (mut asked, mut seen) = (0, 0);
    for (number, tenant) in rows.tenants.iter().enumerate() {
        let mut nested = good(*tenant);
        nested.as_object_mut().unwrap().remove("tenant_id");
        nested["app_metadata"] = json!({"tenant_id": tenant});
        let mut both = good(*tenant);
        both["app_metadata"] = json!({"tenant_id": rows.tenants[(number + 1) % 3]});
        let mut null = nested.clone();
        null["tenant_id"] = Value::Null;
        for claims in [good(*tenant), nested, both, null] {
            for algorithm in ["HS256", "RS256", "ES256"] {
                let token = issuer.good(algorithm, &claims);
                for question in rows.questions() {
                    let everywhere = cursors.iter().map(|cursor| format!("cursor={cursor}&limit=1000"));
                    for rest in everywhere.chain(["".into(), "limit=1".into(), "limit=1000".into()]) {
                        let path = format!("{question}{rest}");
                        let events = served.get(&path, &token).events();
                        for event in &events {
                            assert_eq!(event["tenant_id"], tenant.to_string(), "{path}");
                        }
                        assert_eq!(!events.is_empty(), rows.has(number, &question), "{path}");
                        asked += 1;
                        seen += events.len();
                    }
                }
            }
        }
    }

    // Whoever has no good token gets nothing, whatever is asked.
    let bad = bad_tokens(&issuer, rows.tenants[0], &good);
    for (why, token) in &bad {
        for question in rows.questions() {
            let answer = served.get(&question, token);
            let status = answer.status;
            assert!(matches!(status, 401 | 403), "{why}: {status}");
            assert_eq!(answer.header("content-type"), "application/problem+json", "{why}");
            assert!(!String::from_utf8_lossy(&answer.body).contains("\"events\""), "{why}");
            asked += 1;
        }
    }
    println!(
        "{asked} requests, {} of them with one of {} tokens that are not good; {seen} events seen, each its reader's own",
        bad.len() * rows.questions().len(),
        bad.len()
    );
    assert!(asked > 2000 && seen > 10_000);
    drop(served);
    env.drop_login(&login).await;
}

/// Tokens that are not good, and why.
pub fn bad_tokens(issuer: &Issuer, tenant: Uuid, good: &dyn Fn(Uuid) -> Value) -> Vec<(String, String)> {
    let (secret, claims, now) = (SECRET.as_bytes(), good(tenant), Utc::now().timestamp());
    let hs = json!({"alg": "HS256", "typ": "JWT"});
    let mut bad: Vec<(String, String)> = Vec::new();
    let mut add = |why: &str, token: String| bad.push((why.to_owned(), token));
    // Signatures.
    add("another secret", issuer.sign(How::Hmac(b"another secret of thirty-two bytes.."), &hs, &claims));
    add("an empty secret", issuer.sign(How::Hmac(b""), &hs, &claims));
    for none in ["none", "None", "NONE", "nOnE"] {
        add(none, issuer.sign(How::Not, &json!({"alg": none, "typ": "JWT"}), &claims));
        add("none, signed", issuer.sign(How::Hmac(secret), &json!({"alg": none}), &claims));
    }
    add("unsigned", issuer.sign(How::Not, &hs, &claims));
    add("no algorithm", issuer.sign(How::Hmac(secret), &json!({"typ": "JWT"}), &claims));
    for other in ["HS384", "HS512", "PS256", "RS512", "ES384", "EdDSA", "HS256 ", "hs256"] {
        add(other, issuer.sign(How::Hmac(secret), &json!({"alg": other}), &claims));
    }
    // Confusion: a public key taken for a secret, in each form that a library might take it for.
    let (n, e) = issuer.rsa_public();
    let pem = include_str!("../../env/rsa.pub.pem");
    for key in [n.as_slice(), e.as_slice(), pem.as_bytes(), pem.trim_end().as_bytes()] {
        for kid in [Value::Null, json!("rsa"), json!("ec")] {
            let header = json!({"alg": "HS256", "kid": kid});
            add("the public key as a secret", issuer.sign(How::Hmac(key), &header, &claims));
        }
    }
    add("HS256 said, RS256 done", issuer.sign(How::Rsa, &hs, &claims));
    add(
        "RS256 said, HS256 done",
        issuer.sign(How::Hmac(secret), &json!({"alg": "RS256", "kid": "rsa"}), &claims),
    );
    add("RS256 by the key for ES256", issuer.sign(How::Rsa, &json!({"alg": "RS256", "kid": "ec"}), &claims));
    add("ES256 by the key for RS256", issuer.sign(How::Ec, &json!({"alg": "ES256", "kid": "rsa"}), &claims));
    add("an unknown key id", issuer.sign(How::Rsa, &json!({"alg": "RS256", "kid": "../../etc"}), &claims));
    let stranger = Issuer::new();
    add("a stranger's ES256", stranger.sign(How::Ec, &json!({"alg": "ES256", "kid": "ec"}), &claims));
    let own = stranger.jwks()["keys"][1].clone();
    add("a key that came along", stranger.sign(How::Ec, &json!({"alg": "ES256", "jwk": own}), &claims));
    add(
        "a critical header",
        issuer.sign(How::Hmac(secret), &json!({"alg": "HS256", "crit": ["b64"], "b64": false}), &claims),
    );
    // Forged claims under an old signature.
    let token = issuer.sign(How::Hmac(secret), &hs, &good(Uuid::new_v4()));
    let forged = issuer.sign(How::Not, &hs, &claims);
    let signature = token.rsplit_once('.').unwrap().1;
    add("claims of another token", format!("{}{signature}", forged.trim_end_matches('.').to_owned() + "."));
    // Form.
    for (why, odd) in [
        ("empty", ""),
        ("words", "let me in"),
        ("dots", ".."),
        ("one part", "eyJ"),
        ("four parts", "a.b.c.d"),
    ] {
        add(why, odd.to_owned());
    }
    add("cut", token[..token.len() - 2].to_owned());
    add("more behind it", format!("{token}.{signature}"));
    // Claims.
    let mut with = |why: &str, name: &str, value: Value| {
        let mut claims = claims.clone();
        match value {
            Value::Null => drop(claims.as_object_mut().unwrap().remove(name)),
            value => claims[name] = value,
        }
        for algorithm in ["HS256", "RS256", "ES256"] {
            add(why, issuer.good(algorithm, &claims));
        }
    };
    with("expired", "exp", json!(now - 1));
    with("expired long ago", "exp", json!(0));
    with("no end", "exp", Value::Null);
    with("an end in words", "exp", json!("2999-01-01"));
    with("an end before all time", "exp", json!(-1));
    with("not yet", "nbf", json!(now + 60));
    with("a beginning in words", "nbf", json!("soon"));
    with("another audience", "aud", json!("anon"));
    with("other audiences", "aud", json!(["anon", "service_role"]));
    with("no audience", "aud", Value::Null);
    with("a number as audience", "aud", json!(1));
    with("another issuer", "iss", json!("https://evil"));
    with("no issuer", "iss", Value::Null);
    with("no tenant", "tenant_id", Value::Null);
    for odd in [
        "",
        "x",
        "*",
        "%",
        "' or '1'='1",
        &format!("{{{tenant}}}"),
        &tenant.simple().to_string(),
        &tenant.urn().to_string(),
    ] {
        with("a tenant that is no UUID", "tenant_id", json!(odd));
    }
    for odd in [json!(1), json!(true), json!([tenant]), json!({"tenant_id": tenant})] {
        with("a tenant that is no text", "tenant_id", odd);
    }
    with("a NUL in a claim", "sub", json!("a\u{0}b"));
    bad
}

/// On a table that was there before, with policies that trust what users write themselves and a role of the issuer's: the API
/// shows the token's tenant all the same.
#[tokio::test(flavor = "multi_thread")]
async fn policies_of_an_existing_table_do_not_widen_the_api() {
    let env = TestEnv::empty("oldpolicies").await;
    env.sql.batch_execute(include_str!("../../env/seed.sql")).await.unwrap();
    assert!(env.command().arg("migrate").output().unwrap().status.success());
    let rows = Rows::fill(&env).await;
    let (login, url) = env.login("in role authenticated").await;
    let served = ApiServer::start(&env, |command| {
        command.env("CNS_EVENTS__DATABASE__URL", &url);
    })
    .await;
    let issuer = Issuer::new();
    for (name, value) in [
        ("user_metadata", json!({"tenant_id": rows.tenants[1]})),
        ("role", json!("staff")),
        ("role", json!("service_role")),
        ("sub", json!(rows.tenants[1])),
    ] {
        let mut claims = claims(rows.tenants[0]);
        claims[name] = value;
        for question in rows.questions() {
            let events = served.get(&question, &issuer.good("HS256", &claims)).events();
            assert_eq!(!events.is_empty(), rows.has(0, &question), "{name}: {question}");
            assert!(
                events.iter().all(|event| event["tenant_id"] == rows.tenants[0].to_string()),
                "{name}: {question}"
            );
        }
    }
    drop(served);
    env.drop_login(&login).await;
}
