//! The examples run, and what they publish is stored.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Once;

use crate::env::{TestEnv, amqp_url, eventually};

/// The path of an example, built as `cargo test` builds it.
pub fn built(name: &str) -> PathBuf {
    static BUILD: Once = Once::new();
    BUILD.call_once(|| {
        let folder = env!("CARGO_MANIFEST_DIR");
        let built = Command::new(env!("CARGO"))
            .args(["build", "--offline", "--examples"])
            .current_dir(folder)
            .output()
            .unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    });
    Path::new(env!("CARGO_BIN_EXE_cns-events")).with_file_name("examples").join(name)
}

fn example(env: &TestEnv, name: &str) -> Command {
    let mut command = Command::new(built(name));
    command.env("AMQP_URL", amqp_url()).env("CNS_EVENTS_EXCHANGE", env.exchange()).stdout(Stdio::piped());
    command
}

#[tokio::test(flavor = "multi_thread")]
async fn the_producer_example_publishes() {
    let env = TestEnv::new("producer").await;
    let _worker = env.worker().await;
    let output = example(&env, "producer").arg("500").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("confirmed: 500, left: 0"), "{output:?}");
    eventually("all are stored", async || env.rows().await == 500).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_workflow_example_publishes_a_whole_workflow() {
    let env = TestEnv::new("workflow").await;
    let _worker = env.worker().await;
    let output = example(&env, "workflow").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    eventually("all are stored", async || env.rows().await == 13).await;
    let completed = "select count(*) from enrichment_events where event_type = 'stage_completed' and state->>'status' = 'completed'";
    assert_eq!(env.number(completed).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_axum_example_publishes_from_a_handler() {
    let env = TestEnv::new("axum").await;
    let _worker = env.worker().await;
    let mut service = example(&env, "axum_handler").arg("127.0.0.1:0").spawn().unwrap();
    let mut lines = BufReader::new(service.stdout.take().unwrap()).lines();
    let address = lines.next().unwrap().unwrap().replace("listening on ", "");
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let path = "/boms/6f9619ff-8b86-4d01-b42d-00cf4fc964ff/pause";
    write!(stream, "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 202"), "{answer}");
    eventually("its event is stored", async || env.rows().await == 1).await;
    Command::new("kill").args(["-TERM", &service.id().to_string()]).status().unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "confirmed: 1, left: 0");
    assert!(service.wait().unwrap().success());
}
