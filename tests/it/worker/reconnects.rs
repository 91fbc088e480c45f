//! Servers that cannot be reached: the log and `/readyz` report each with its reason.

use serde_json::Value;
use tokio::net::TcpListener;

use crate::env::relay::Relay;
use crate::env::{TestEnv, Worker, amqp_url, eventually};

/// Returns the answer of `/readyz`.
fn readiness(worker: &Worker) -> Option<Value> {
    serde_json::from_str(&worker.get("/readyz")?.1).ok()
}

/// The reason changes from attempt to attempt: the log has each, and not the first alone.
#[tokio::test(flavor = "multi_thread")]
async fn every_reason_of_a_failed_reconnect_is_logged() {
    let env = TestEnv::new("reconnects").await;
    let relay = Relay::before(&amqp_url()).await;
    relay.open().await;
    let worker = env.start(|command| {
        command.env("CNS_EVENTS__AMQP__URI", relay.url(&amqp_url()));
    });
    worker.ready().await;
    relay.cut();
    let place = format!("127.0.0.1:{}", relay.port);
    eventually("the refused connection is logged", async || {
        worker.log().contains(&format!("cannot connect to {place}: Connection refused"))
    })
    .await;
    // The port is of another program, which closes every connection.
    let listener = TcpListener::bind(("127.0.0.1", relay.port)).await.unwrap();
    let other = tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    eventually("the closed connection is logged", async || {
        let log = worker.log();
        let lines = log.lines().filter(|line| line.contains(&format!("cannot connect to {place}")));
        lines.filter(|line| !line.contains("Connection refused")).count() > 0
    })
    .await;
    other.abort();
    let _ = other.await; // it was aborted
    relay.open().await;
    worker.ready().await;
}

/// A broker that is away does not hide the database, and `/readyz` has the address, the state and the reason of each.
#[tokio::test(flavor = "multi_thread")]
async fn readyz_reports_what_is_known_of_each_server() {
    let env = TestEnv::new("bothaway").await;
    let (broker, database) = (Relay::before(&amqp_url()).await, Relay::before(&env.database_url).await);
    let worker = env.start(|command| {
        command
            .env("CNS_EVENTS__AMQP__URI", broker.url(&amqp_url()))
            .env("CNS_EVENTS__DATABASE__URL", database.url(&env.database_url));
    });
    let state = |server: &str| {
        let readiness = readiness(&worker)?;
        let server = &readiness["servers"][server];
        Some((server["state"].as_str()?.to_owned(), server["reason"].as_str().unwrap_or_default().to_owned()))
    };
    let refused = |server: &str, relay: &Relay| {
        let reason = format!("cannot connect to 127.0.0.1:{}: Connection refused", relay.port);
        state(server).is_some_and(|(state, found)| state == "away" && found.starts_with(&reason))
    };
    eventually("both are reported", async || refused("broker", &broker) && refused("database", &database))
        .await;
    database.open().await;
    eventually("the database is reached while the broker is away", async || {
        state("database").is_some_and(|(state, _)| state == "reached") && refused("broker", &broker)
    })
    .await;
    let known = readiness(&worker).unwrap();
    assert_eq!(known["servers"]["broker"]["address"], format!("127.0.0.1:{}", broker.port));
    assert!(known["reasons"]["broker"].is_string() && known["reasons"]["database"].is_null(), "{known}");
    assert!(known["servers"]["database"]["since"].as_str().is_some_and(|since| since.ends_with('Z')));
    broker.open().await;
    worker.ready().await;
    let known = readiness(&worker).unwrap();
    assert_eq!((&known["ready"], &known["reasons"]), (&true.into(), &serde_json::json!({})));
    assert_eq!(known["servers"]["broker"]["state"], "reached");
}
