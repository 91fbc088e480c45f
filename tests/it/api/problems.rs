//! Problems of the read API (RFC 9457), as a client reads them.

use serde_json::{Value, json};
use uuid::Uuid;

use crate::env::TestEnv;
use crate::env::api_server::ApiServer;
use crate::env::http::Response;
use crate::env::relay::Relay;
use crate::env::snapshot::assert_text;
use crate::env::tokens::{Issuer, claims, token};

fn assert_problem(name: &str, request: &str, response: &Response) {
    let mut text = format!("{request}\n\n{}\n", response.status);
    for header in ["content-type", "www-authenticate", "retry-after", "allow"] {
        if !response.header(header).is_empty() {
            text.push_str(&format!("{header}: {}\n", response.header(header)));
        }
    }
    text.push_str(&format!("\n{:#}\n", response.json()));
    assert_text("api", &format!("problem-{name}"), None, &text);
}

#[tokio::test(flavor = "multi_thread")]
async fn problems_are_as_recorded() {
    let env = TestEnv::new("problems").await;
    let api = ApiServer::start(&env, |_| {}).await;
    let tenant = Uuid::from_u128(0x6f96_19ff_8b86_4d01_b42d_00cf_4fc9_64ff);
    let bom = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff";
    let good = token(tenant);
    for (name, path) in [
        ("invalid-bom", "/v1/boms/not-a-uuid/events".to_owned()),
        ("invalid-limit", format!("/v1/boms/{bom}/events?limit=1001")),
        ("invalid-cursor", format!("/v1/boms/{bom}/events?cursor=nonsense")),
        ("invalid-hours", "/v1/errors?hours=-1".to_owned()),
        ("unknown-parameter", format!("/v1/boms/{bom}/events?colour=red")),
        ("twice-the-same-parameter", format!("/v1/boms/{bom}/events?limit=1&limit=2")),
        ("no-such-path", "/v2/boms".to_owned()),
    ] {
        assert_problem(name, &format!("GET {path}"), &api.get(&path, &good));
    }
    let path = format!("/v1/boms/{bom}/events");
    assert_problem(
        "method",
        &format!("POST {path}"),
        &api.request("POST", &path, &[("authorization", &format!("Bearer {good}"))]),
    );
    assert_problem("no-token", &format!("GET {path}"), &api.request("GET", &path, &[]));
    let issuer = Issuer::new();
    let with = |change: &dyn Fn(&mut Value)| {
        let mut claims = claims(tenant);
        change(&mut claims);
        issuer.good("HS256", &claims)
    };
    for (name, token) in [
        ("malformed-token", "nonsense".to_owned()),
        ("expired-token", with(&|claims| claims["exp"] = json!(1_000_000_000))),
        ("other-audience", with(&|claims| claims["aud"] = json!("other"))),
        ("token-without-a-tenant", with(&|claims| claims["tenant_id"] = Value::Null)),
    ] {
        assert_problem(name, &format!("GET {path}"), &api.get(&path, &token));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn problems_of_overload_and_outage_are_as_recorded() {
    let env = TestEnv::new("problemsaway").await;
    let relay = Relay::before(&env.database_url).await;
    relay.open().await;
    let api = ApiServer::start(&env, |command| {
        command
            .env("CNS_EVENTS__DATABASE__URL", relay.url(&env.database_url))
            .env("CNS_EVENTS__API__RATE_LIMIT", "1");
    })
    .await;
    let path = "/v1/errors";
    relay.cut();
    let first = token(Uuid::from_u128(1));
    let mut responses = (0..20).map(|_| api.get(path, &first));
    let limited = responses.find(|response| response.status == 429).expect("one request a second");
    assert_problem("too-many-requests", &format!("GET {path}"), &limited);
    assert_problem("database-away", &format!("GET {path}"), &api.get(path, &token(Uuid::from_u128(2))));
}
