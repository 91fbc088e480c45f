//! Error messages of the command line: wrong usage, wrong configuration, servers that do not answer.

use std::process::Command;

use crate::env::TestEnv;
use crate::env::snapshot::{assert_text, run};

/// Port 9 (discard) has no listener.
const NO_BROKER: &str = "amqp://guest:s3cret@127.0.0.1:9/%2f";
const NO_DATABASE: &str = "postgres://cns:s3cret@127.0.0.1:9/cns";

fn program(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cns-events"));
    command
        .args(arguments)
        .env_remove("AMQP_URL")
        .env_remove("DATABASE_URL")
        .env_remove("CNS_EVENTS_PROFILE");
    command
}

#[test]
fn usage_errors_are_as_recorded() {
    for (name, arguments) in [
        ("unknown-command", &["nonsense"][..]),
        ("unknown-option", &["worker", "--fast"]),
        ("query-without-a-bom", &["query", "bom"]),
        ("query-with-an-invalid-id", &["query", "bom", "not-a-uuid", "--all-tenants"]),
        ("query-without-a-tenant", &["query", "errors"]),
        ("publish-without-a-type", &["publish", "--bom-id", "6f9619ff-8b86-4d01-b42d-00cf4fc964ff"]),
        ("query-of-nothing", &["query", "errors", "--all-tenants", "--limit", "0"]),
        ("dlq-list-of-nothing", &["dlq", "list", "--limit", "0"]),
        ("prune-with-an-invalid-age", &["prune", "--older-than", "soon"]),
    ] {
        assert_text("cli", &format!("usage-{name}"), None, &run(&mut program(arguments)));
    }
}

#[test]
fn configuration_errors_are_as_recorded() {
    for (name, settings) in [
        (
            "wrong-types",
            &[("CNS_EVENTS__WORKER__BATCH_SIZE", "many"), ("CNS_EVENTS__AMQP__QUEUE_TYPE", "stream")][..],
        ),
        (
            "wrong-values",
            &[
                ("CNS_EVENTS__AMQP__URI", "http://guest:s3cret@h/"),
                ("CNS_EVENTS__DATABASE__URL", "mysql://u:s3cret@h/d"),
                ("CNS_EVENTS__WORKER__LANES", "0"),
                ("CNS_EVENTS__WORKER__PREFETCH", "10"),
                ("CNS_EVENTS__LOG__LEVEL", "loud"),
            ],
        ),
        ("unknown-key", &[("CNS_EVENTS__WORKER__LANE", "2")]),
        (
            "combination",
            &[("CNS_EVENTS__WORKER__PREFETCH", "10"), ("CNS_EVENTS__WORKER__HOLD_SECONDS", "3600")],
        ),
        ("missing-file", &[("CNS_EVENTS__DATABASE__URL_FILE", "/nonexistent/url")]),
    ] {
        let mut command = program(&["worker"]);
        if name != "wrong-values" {
            command.env("CNS_EVENTS__AMQP__URI", NO_BROKER);
            if name != "missing-file" {
                command.env("CNS_EVENTS__DATABASE__URL", NO_DATABASE);
            }
        }
        assert_text(
            "cli",
            &format!("configuration-{name}"),
            None,
            &run(command.envs(settings.iter().copied())),
        );
    }
    let mut serve = program(&["serve"]);
    serve.env("CNS_EVENTS__DATABASE__URL", NO_DATABASE);
    assert_text("cli", "configuration-serve-without-keys", None, &run(&mut serve));
}

#[test]
fn errors_about_unreachable_servers_are_as_recorded() {
    for (name, arguments) in [
        ("dlq", &["dlq", "list"][..]),
        ("query", &["query", "errors", "--all-tenants"]),
        ("migrate", &["migrate"]),
        ("prune", &["prune", "--older-than", "2y", "--dry-run"]),
        (
            "publish",
            &[
                "publish",
                "--type",
                "x",
                "--bom-id",
                "6f9619ff-8b86-4d01-b42d-00cf4fc964ff",
                "--organization-id",
                "o",
                "--timeout",
                "1",
            ],
        ),
        ("doctor", &["doctor"]),
    ] {
        let mut command = program(arguments);
        command.env("CNS_EVENTS__AMQP__URI", NO_BROKER).env("CNS_EVENTS__DATABASE__URL", NO_DATABASE);
        assert_text("cli", &format!("unreachable-{name}"), None, &run(&mut command));
    }
}

/// The error of a worker whose queue has other arguments, and of one whose topology is missing.
#[tokio::test(flavor = "multi_thread")]
async fn topology_errors_are_as_recorded() {
    let env = TestEnv::new("topologytext").await;
    let human = |passive: bool| {
        let mut command = env.command();
        command.arg("worker").env("CNS_EVENTS__LOG__FORMAT", "human").env("CNS_EVENTS__LOG__LEVEL", "error");
        if passive {
            command.env("CNS_EVENTS__AMQP__DECLARE", "passive");
        }
        run(&mut command)
    };
    assert_text("cli", "topology-missing", Some(&env), &human(true));
    env.declare_foreign_queue().await;
    assert_text("cli", "topology-other-arguments", Some(&env), &human(false));
}

/// The findings of `doctor` are sentences, which are read in a pager and in logs too.
#[test]
fn findings_of_doctor_fit_where_they_are_piped() {
    for (columns, widest) in [(None, 100), (Some("70"), 70)] {
        let mut command = program(&["doctor"]);
        command.env_remove("COLUMNS").envs(columns.map(|columns| ("COLUMNS", columns)));
        let output = command.env("AMQP_URL", NO_BROKER).env("DATABASE_URL", NO_DATABASE).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let widths: Vec<_> = text.lines().map(|line| line.chars().count()).collect();
        assert!(widths.iter().max().is_some_and(|found| *found <= widest), "{text}");
    }
}
