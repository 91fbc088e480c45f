//! The examples that watch: they show each event once, also over the end of a server.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::Value;
use uuid::Uuid;

use crate::env::api_server::ApiServer;
use crate::env::tokens::token;
use crate::env::{TestEnv, eventually};

/// Kills a process that is left where a test fails.
struct Ended(std::process::Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a watcher that prints a line of JSON for each event.
async fn watches(name: &str, mut command: Command) {
    let env = TestEnv::new(name).await;
    let tenant = Uuid::new_v4();
    let listen = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let serve = async || {
        ApiServer::start(&env, |command| {
            command.env("CNS_EVENTS__API__LISTEN", &listen);
        })
        .await
    };
    let mut served = serve().await;
    command.env("CNS_URL", format!("http://{listen}")).env("CNS_TOKEN", token(tenant));
    let mut watcher = Ended(command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap());
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let (stdout, lines) = (watcher.0.stdout.take().unwrap(), seen.clone());
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines() {
            let event: Value = serde_json::from_str(&line.unwrap()).unwrap();
            lines.lock().unwrap().push(event["event_id"].as_str().unwrap().to_owned());
        }
    });
    let insert = "insert into enrichment_events (event_id, event_type, bom_id, tenant_id, source, state, payload) \
        select $1 || n, 'error', gen_random_uuid(), $2, 'customer', '{}', '{}' from generate_series(1, 20) n";
    // A watcher begins at its own now: it watches from the first event on that it shows.
    eventually("it watches", async || {
        env.sql.execute(insert, &[&format!("first-{}-", Uuid::now_v7()), &tenant]).await.unwrap();
        !seen.lock().unwrap().is_empty()
    })
    .await;
    let mut expected = Vec::new();
    for round in 0..3 {
        env.sql.execute(insert, &[&format!("r{round}-"), &tenant]).await.unwrap();
        expected.extend((1..=20).map(|n| format!("r{round}-{n}")));
        if round == 1 {
            served.process.child.kill().unwrap();
            drop(served);
            served = serve().await;
        }
    }
    let shown = || -> Vec<String> {
        seen.lock().unwrap().iter().filter(|id| !id.starts_with("first-")).cloned().collect()
    };
    eventually("all are seen", async || shown().len() >= expected.len()).await;
    assert_eq!(shown(), expected);
    drop(served);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_python_example_watches() {
    let mut command = Command::new("python3");
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/watch.py"));
    watches("watchpython", command).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_browser_example_watches() {
    if Command::new("node").arg("--version").output().is_err() {
        eprintln!("node is not installed: the example was not run");
        return;
    }
    let module = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/watch.mjs");
    let script = format!(
        "import {{ watch }} from '{}'; for await (const {{ event, data }} of watch(process.env.CNS_URL, process.env.CNS_TOKEN)) \
         if (event === 'event') console.log(JSON.stringify(data));",
        module.display()
    );
    let mut command = Command::new("node");
    command.args(["--input-type=module", "-e", &script]);
    watches("watchnode", command).await;
}
