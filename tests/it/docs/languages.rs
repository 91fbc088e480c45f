//! The producers in other languages run, and what they publish is stored once.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use lapin::types::FieldTable;

use crate::env::{TestEnv, amqp_url, eventually};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn runs(program: &str, arguments: &[&str]) -> bool {
    Command::new(program).args(arguments).output().is_ok_and(|output| output.status.success())
}

/// Installs Debian packages where a program does not run without them. Returns whether it runs then.
fn has(program: &str, arguments: &[&str], packages: &[&str]) -> bool {
    let installed = || {
        let install = Command::new(root().join("scripts/services")).arg("install").args(packages).output();
        install.is_ok_and(|output| output.status.success())
    };
    runs(program, arguments) || (installed() && runs(program, arguments))
}

fn folder(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

fn node() -> Option<Command> {
    let modules = folder("node");
    let loads = |program: &str| {
        let mut load = Command::new(program);
        load.args(["-e", "require('amqplib')"]).env("NODE_PATH", modules.join("node_modules"));
        load.output().is_ok_and(|output| output.status.success())
    };
    has("npm", &["--version"], &["nodejs", "npm"]).then_some(())?;
    if !loads("node") {
        let install = ["install", "--silent", "--no-audit", "--no-fund", "amqplib@0.10"];
        let _ = Command::new("npm").args(install).current_dir(&modules).output();
    }
    let mut command = Command::new("node");
    command.arg(root().join("examples/producer.js")).env("NODE_PATH", modules.join("node_modules"));
    loads("node").then_some(command)
}

fn ruby() -> Option<Command> {
    has("ruby", &["-e", "require 'bunny'"], &["ruby", "ruby-bunny"]).then_some(())?;
    let mut command = Command::new("ruby");
    command.arg(root().join("examples/producer.rb"));
    Some(command)
}

fn go() -> Option<Command> {
    let client = "github.com/rabbitmq/amqp091-go";
    let environment = [("GO111MODULE", "off"), ("GOPATH", "/usr/share/gocode"), ("GOFLAGS", "")];
    let packages = ["golang-go", "golang-github-rabbitmq-amqp091-go-dev"];
    has("sh", &["-c", &format!("command -v go && test -d /usr/share/gocode/src/{client}")], &packages)
        .then_some(())?;
    let built = folder("go").join("producer");
    let build = Command::new("go")
        .args(["build", "-o"])
        .arg(&built)
        .arg(root().join("examples/producer.go"))
        .env("GOCACHE", folder("go-cache"))
        .envs(environment)
        .output()
        .unwrap();
    assert!(build.status.success(), "{}", String::from_utf8_lossy(&build.stderr));
    Some(Command::new(built))
}

async fn publishes(language: &str, command: Option<Command>) {
    let Some(command) = command else {
        eprintln!("{language} with its client cannot be had here: the example was not run");
        return;
    };
    let env = TestEnv::new(language).await;
    let run = |events: &str| -> Output {
        let mut run = Command::new(command.get_program());
        run.args(command.get_args()).args(["org-123", events]);
        run.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
        run.env("AMQP_URL", amqp_url()).env("CNS_EVENTS_EXCHANGE", env.exchange()).output().unwrap()
    };
    let refused = run("3");
    assert_eq!(refused.status.code(), Some(1), "no exchange yet: {refused:?}");

    let _worker = env.worker().await;
    let published = run("500");
    assert!(published.status.success(), "{published:?}");
    let said = String::from_utf8_lossy(&published.stdout);
    assert!(said.contains("confirmed: 500, left: 0"), "{said}");
    eventually("all are stored", async || env.rows().await == 500).await;
    let typed = "select count(*) from enrichment_events where payload->>'status' = 'matched' and tenant_id is not null";
    assert_eq!(env.number(typed).await, 500);

    let (queue, exchange) = (env.queue().into(), env.exchange().into());
    env.channel.queue_unbind(queue, exchange, "cns.#".into(), FieldTable::default()).await.unwrap();
    let returned = run("3");
    assert_eq!(returned.status.code(), Some(1), "no queue takes them: {returned:?}");
    assert!(String::from_utf8_lossy(&returned.stdout).contains("confirmed: 0, left: 3"), "{returned:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_node_example_publishes() {
    publishes("node", node()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ruby_example_publishes() {
    publishes("ruby", ruby()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_go_example_publishes() {
    publishes("go", go()).await;
}
