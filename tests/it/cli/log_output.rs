//! Logs that cannot be written: the process goes on and ends as it would otherwise.

use std::fs::OpenOptions;
use std::io::Read as _;
use std::process::{Child, Command, Stdio};

use crate::env::{TestEnv, event, eventually};

/// A device on which every write fails with "no space left".
fn full_disk() -> Stdio {
    OpenOptions::new().write(true).open("/dev/full").unwrap().into()
}

/// Stderr whose reader has ended.
fn closed_pipe() -> Stdio {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer.into()
}

struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Killed {
    async fn terminate(mut self) -> Option<i32> {
        Command::new("kill").args(["-TERM", &self.0.id().to_string()]).status().unwrap();
        let process = std::cell::RefCell::new(&mut self.0);
        eventually("the process ends", async || process.borrow_mut().try_wait().unwrap().is_some()).await;
        self.0.wait().unwrap().code()
    }
}

async fn stores_and_ends(env: &TestEnv, worker: Killed, id: &str) {
    env.publish(b"not json").await; // makes the worker log a line
    env.publish(event(id).as_bytes()).await;
    let stored = format!("select count(*) from enrichment_events where event_id = '{id}'");
    eventually("the event is stored", async || env.number(&stored).await == 1).await;
    assert_eq!(worker.terminate().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_goes_on_where_its_log_cannot_be_written() {
    let env = TestEnv::new("fulllog").await;
    env.declare().await;
    for (format, stderr, id) in [
        ("human", full_disk(), "full"),
        ("human", closed_pipe(), "closed"),
        ("json", full_disk(), "full-json"),
        ("json", closed_pipe(), "closed-json"),
    ] {
        let mut command = env.command();
        command.arg("worker").env("CNS_EVENTS__LOG__FORMAT", format).env("CNS_EVENTS__LOG__LEVEL", "debug");
        stores_and_ends(&env, Killed(command.stdout(full_disk()).stderr(stderr).spawn().unwrap()), id).await;
    }
}

/// As with `worker 2>&1 | head -1`.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_goes_on_after_the_reader_of_its_log_has_ended() {
    let env = TestEnv::new("headlog").await;
    env.declare().await;
    let mut command = env.command();
    command.arg("worker").env("CNS_EVENTS__LOG__LEVEL", "debug").stderr(Stdio::piped());
    let mut worker = Killed(command.spawn().unwrap());
    let mut stderr = worker.0.stderr.take().unwrap();
    let mut first = [0; 1];
    stderr.read_exact(&mut first).unwrap();
    drop(stderr);
    stores_and_ends(&env, worker, "one").await;
}

/// The read API, whose address cannot be read from its log then.
#[tokio::test(flavor = "multi_thread")]
async fn the_read_api_answers_where_its_log_cannot_be_written() {
    let env = TestEnv::new("fulllogapi").await;
    for stderr in [full_disk(), closed_pipe()] {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut command = env.command();
        command
            .arg("serve")
            .env("CNS_EVENTS__API__LISTEN", port.to_string())
            .env("CNS_EVENTS__API__JWT_SECRET", "k".repeat(32))
            .env("CNS_EVENTS__LOG__LEVEL", "trace");
        let serve = Killed(command.stderr(stderr).spawn().unwrap());
        eventually("it is ready", async || {
            crate::env::http::get(port, "/readyz").is_some_and(|(status, _)| status == 200)
        })
        .await;
        assert_eq!(crate::env::http::get(port, "/v1/errors").map(|(status, _)| status), Some(401));
        assert_eq!(serve.terminate().await, Some(0));
    }
}

/// Commands report their failure by the exit code alone.
#[tokio::test(flavor = "multi_thread")]
async fn commands_end_with_their_own_exit_code_where_stderr_cannot_be_written() {
    let env = TestEnv::new("fulllogcli").await;
    for (arguments, code) in [
        (&["doctor"][..], 1),
        (&["query", "errors"], 2),
        (&["nonsense"], 2),
        (&["prune", "--older-than", "1d", "--yes"], 1),
    ] {
        for stderr in [full_disk(), closed_pipe()] {
            let mut command = env.command();
            command
                .args(arguments)
                .env("CNS_EVENTS__DATABASE__URL", "postgres://u@127.0.0.1:1/d")
                .env("CNS_EVENTS__LOG__LEVEL", "trace")
                .env("CNS_EVENTS__AMQP__URI", "amqp://u@127.0.0.1:1/");
            let status = command.stdout(Stdio::null()).stderr(stderr).status().unwrap();
            assert_eq!(status.code(), Some(code), "{arguments:?}");
        }
    }
}
