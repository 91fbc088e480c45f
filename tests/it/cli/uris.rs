//! Texts that are not exactly one URI: every command refuses them and shows no part of them.

use std::process::Command;

use crate::env::{TestEnv, event, output_text};

/// Stands in the part of each text that is not the password of its first URI.
const SECRET: &str = "hunter2";

/// Lists in the forms of several clients, unescaped passwords, quotes and characters from a clipboard.
const BROKERS: [&str; 14] = [
    "amqp://u:p@h:5672//;amqp://guest:hunter2@h2//",
    "amqp://u:p@h:5672,amqp://guest:hunter2@h2",
    "amqp://u:p@h amqp://guest:hunter2@h2",
    "amqp://u:p@h\namqp://guest:hunter2@h2",
    "amqp://u:p@h;guest:hunter2@h2",
    "amqp://u:p@h/v;hunter2",
    "amqp://u:p@ss@hunter2",
    "amqp://u:12/hunter2@h",
    "amqp://u:12#hunter2@h",
    "\"amqp://u:hunter2@h\"",
    "'amqp://u:hunter2@h'",
    "\u{feff}amqp://u:hunter2@h",
    "amqp://u:hunter2@h/v\r",
    "amqp://h/%3Bamqp%3A%2F%2Fguest%3Ahunter2%40h2",
];

/// As [`BROKERS`], and query parameters.
const DATABASES: [&str; 12] = [
    "postgres://u:p@h/d;postgres://u:hunter2@h2/d",
    "postgres://u:p@h/d,postgres://u:hunter2@h2/d",
    "postgres://u:p@h1,u:hunter2@h2/d",
    "postgres://u:p@h/d postgres://u:hunter2@h2/d",
    "postgres://u:12?hunter2@h/d",
    "postgres://u:12#hunter2@h/d",
    "postgres://u%3Ahunter2%40h/d",
    "postgres://u:p@h/d?hunter2=1",
    "postgres://u:p@h/d?sslmode=hunter2",
    "\"postgres://u:hunter2@h/d\"",
    "\u{feff}postgres://u:hunter2@h/d",
    "postgres://u:hunter2@h/d\u{feff}",
];

/// Runs a command and returns its exit code, after its output was searched for the secret.
fn run(mut command: Command, variable: &str, value: &str) -> Option<i32> {
    let output = command.env(variable, value).output().unwrap();
    let text = output_text(&output);
    assert!(!text.contains(SECRET), "{command:?}: {text}");
    output.status.code()
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_and_malformed_uris_are_refused_without_being_shown() {
    let env = TestEnv::new("uris").await;
    let bom = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff";
    let commands: [(&[&str], i32); 11] = [
        (&["worker"], 78),
        (&["serve"], 78),
        (&["config"], 78),
        (&["config", "--json"], 78),
        (&["doctor"], 1),
        (&["doctor", "--json"], 1),
        (&["publish", "--type", "x", "--bom-id", bom, "--organization-id", "o"], 78),
        (&["dlq", "list"], 78),
        (&["demo"], 78),
        (&["query", "errors", "--all-tenants"], 78),
        (&["migrate", "--status"], 78),
    ];
    let cases = BROKERS.iter().map(|uri| ("CNS_EVENTS__AMQP__URI", *uri));
    for (variable, value) in cases.chain(DATABASES.iter().map(|url| ("CNS_EVENTS__DATABASE__URL", *url))) {
        for (arguments, code) in commands {
            let mut command = env.command();
            command.args(arguments).env("CNS_EVENTS__LOG__LEVEL", "trace");
            assert_eq!(run(command, variable, value), Some(code), "{arguments:?} with {variable}={value:?}");
        }
    }
}

/// The same forms by the variables without a prefix and by files.
#[tokio::test(flavor = "multi_thread")]
async fn malformed_uris_from_files_and_plain_variables_are_not_shown() {
    let env = TestEnv::empty("urifiles").await;
    let file = tempfile::NamedTempFile::new().unwrap();
    for (prefixed, plain, values) in [
        ("CNS_EVENTS__AMQP__URI", "AMQP_URL", &BROKERS[..]),
        ("CNS_EVENTS__DATABASE__URL", "DATABASE_URL", &DATABASES),
    ] {
        for value in values {
            std::fs::write(file.path(), format!("{value}x\n")).unwrap();
            let by_file = (format!("{prefixed}_FILE"), file.path().to_str().unwrap());
            for (variable, value) in [(plain.to_owned(), *value), by_file] {
                let mut command = env.command();
                command.args(["doctor"]).env_remove(prefixed);
                assert_eq!(run(command, &variable, value), Some(1), "{variable}={value:?}");
            }
        }
    }
}

/// A password that is one URI's own stays out of log, health and metrics of a worker that cannot log in.
#[tokio::test(flavor = "multi_thread")]
async fn passwords_of_unreachable_servers_are_not_in_logs_or_health() {
    let env = TestEnv::new("urihealth").await;
    env.declare().await;
    for (variable, value) in [
        ("CNS_EVENTS__AMQP__URI", "amqp://u:hunter2@127.0.0.1:1/%2f"),
        ("CNS_EVENTS__AMQP__URI", "amqp://u:a,hunter2;b'c@127.0.0.1:1/%2f"),
        ("CNS_EVENTS__DATABASE__URL", "postgres://u:hunter2@127.0.0.1:1/d"),
        ("CNS_EVENTS__DATABASE__URL", "postgres://u@127.0.0.1:1/d?password=hunter2"),
    ] {
        let mut worker = env.start(|command| {
            command.env(variable, value).env("CNS_EVENTS__LOG__LEVEL", "trace");
        });
        crate::env::eventually("health is served", async || worker.get("/readyz").is_some()).await;
        env.publish(event("one").as_bytes()).await;
        for path in ["/readyz", "/livez", "/metrics"] {
            let (_, text) = worker.get(path).unwrap();
            assert!(!text.contains(SECRET), "{path}: {text}");
        }
        worker.terminate().await;
        assert!(!worker.log().contains(SECRET), "{}", worker.log());
        let mut command = env.command();
        command.arg("config");
        assert_eq!(run(command, variable, value), Some(0));
    }
}
