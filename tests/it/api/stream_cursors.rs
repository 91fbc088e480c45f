//! Streams beside the other endpoints: they go on where a list ends, and support staff has one of the tenant that it names.

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;
use uuid::Uuid;

use super::summaries::{aggregate, store, unlimited};
use super::support::support_token;
use crate::env::TestEnv;
use crate::env::api_server::ApiServer;
use crate::env::sse::Sse;
use crate::env::tokens::token;

/// A stream after the cursor of an answer has each event that the answer does not have, and no other.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_goes_on_where_an_answer_ends() {
    let env = TestEnv::new("streamcursor").await;
    let tenant = Uuid::new_v4();
    let served = unlimited(&env).await;
    let token = token(tenant);
    let add = async |workflow: &str| store(&env, tenant, workflow, 1, "error", json!({}), json!({})).await;
    add("summed").await;
    aggregate(&env);
    // A writer that began before both answers commits after them.
    let late = crate::env::connect(&env.database_url).await;
    let insert = "begin; insert into enrichment_events (event_id, event_type, bom_id, tenant_id, source, workflow_id) \
                  values ('late', 'error', gen_random_uuid(), 'TENANT', 'customer', 'late')";
    late.batch_execute(&insert.replace("TENANT", &tenant.to_string())).await.unwrap();
    add("waits").await;
    let cursor = |path: &str| served.get(path, &token).json()["stream_cursor"].as_str().unwrap().to_owned();
    let (of_summaries, of_events, of_workflow) =
        (cursor("/v1/workflows"), cursor("/v1/errors?hours=8760"), cursor("/v1/workflows/summed"));
    add("after").await;
    late.batch_execute("commit").await.unwrap();
    for (after, expected) in [
        (of_summaries, &["after", "late", "waits"][..]),
        (of_events, &["after", "late"]),
        (of_workflow, &["after", "late"]),
    ] {
        let path = format!("/v1/stream?after={after}");
        let mut stream = Sse::open(served.address, &path, &token, None).await.unwrap();
        let mut found = Vec::new();
        for _ in expected {
            let event = stream.event().await.unwrap();
            found.push(event.data["workflow_id"].as_str().unwrap().to_owned());
        }
        found.sort();
        assert_eq!(found, expected);
    }
}

/// Support staff names a tenant, over both protocols; each stream is logged once, and needs the role.
#[tokio::test(flavor = "multi_thread")]
async fn support_staff_streams_as_the_tenant_that_it_names() {
    let env = TestEnv::new("supportstream").await;
    let (tenant, other) = (Uuid::new_v4(), Uuid::new_v4());
    let (login, url) = env.login("in role authenticated").await;
    let served = ApiServer::start(&env, |command| {
        command.env("CNS_EVENTS__DATABASE__URL", &url);
    })
    .await;
    let (support, path) = (support_token(None), format!("/v1/stream?tenant={tenant}"));
    assert_eq!(served.get(&path, &support).status, 403, "the login is not a member");
    env.sql.batch_execute(&format!("grant cns_events_support to {login}")).await.unwrap();
    for path in ["/v1/stream", "/v1/stream/ws"] {
        let refused = served.get(path, &support);
        assert!(
            refused.status == 400 && refused.json()["detail"].as_str().unwrap().starts_with("tenant: "),
            "{path}"
        );
        let refused = served.get(&format!("{path}?tenant={tenant}"), &token(tenant));
        assert_eq!(refused.status, 403, "{path}");
    }
    let logged = || served.process.log().lines().filter(|line| line.contains("reads as a tenant")).count();
    let before = logged();
    let mut stream = Sse::open(served.address, &path, &support, None).await.unwrap();
    let begun = stream.next().await.unwrap().id;
    let url = format!("ws://{}/v1/stream/ws?tenant={tenant}&after={begun}", served.address);
    let (mut socket, _) = connect_async(&url).await.unwrap();
    socket.send(Message::text(json!({ "token": support }).to_string())).await.unwrap();
    store(&env, other, "other", 0, "error", json!({}), json!({})).await;
    store(&env, tenant, "own", 0, "error", json!({}), json!({})).await;
    assert_eq!(stream.event().await.unwrap().data["workflow_id"], "own");
    let message = loop {
        let Message::Text(text) = socket.next().await.unwrap().unwrap() else { continue };
        let message: Value = serde_json::from_str(&text).unwrap();
        if message["event"] == "event" {
            break message;
        }
    };
    assert_eq!(message["data"]["tenant_id"], tenant.to_string());
    assert_eq!(logged() - before, 2);
    // A tenant's own token with a tenant, and support staff without one, in the first message.
    for (query, token) in [(format!("?tenant={tenant}"), token(tenant)), (String::new(), support)] {
        let (mut socket, _) =
            connect_async(format!("ws://{}/v1/stream/ws{query}", served.address)).await.unwrap();
        socket.send(Message::text(json!({ "token": token }).to_string())).await.unwrap();
        let Some(Ok(Message::Close(Some(frame)))) = socket.next().await else { panic!("it is closed") };
        assert!(u16::from(frame.code) == 4401 && frame.reason.starts_with("tenant: "), "{frame:?}");
    }
    drop((stream, socket, served));
    env.drop_login(&login).await;
}
