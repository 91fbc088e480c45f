//! Snapshots of text that a person reads, without what differs from run to run.

use std::process::{Command, Output, Stdio};

use super::{TIMEOUT, TestEnv};

/// Pairs of a regular expression and its replacement.
const REDACTIONS: [(&str, &str); 19] = [
    // A version 7 UUID is of this run; the tests' own ids are of other versions.
    (r"\b[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}\b", "UUID"),
    (r#""request_id": "[^"]*""#, r#""request_id": "UUID""#),
    // Events of these tests are of 2001.
    (r"\b20[2-9]\d-\d\d-\d\d[T ]\d\d:\d\d(:\d\d)?(\.\d+)?( ?(Z|UTC|\+00(:00)?))?", "TIME"),
    (r"\b(127\.0\.0\.1|localhost|\[::1\]):\d+", "$1:PORT"),
    (r"\bcns-events \d+\.\d+\.\d+( \([^)]*\))?", "cns-events VERSION"),
    (r"\bRabbitMQ \d+(\.\d+)+", "RabbitMQ VERSION"),
    (r"\bPostgreSQL \d+(\.\d+)+( \([^)]*\))?", "PostgreSQL VERSION"),
    (r"[-+]?\b\d+(\.\d+)? (s|ms|seconds)\b", "DURATION"),
    (r"/tmp/[^\s│]+", "PATH"),
    (r"--cursor [\w-]+", "--cursor CURSOR"),
    (r#""next_cursor":"[^"]*""#, r#""next_cursor":"CURSOR""#),
    (r"(x-cns-worker: |│ worker +┆ )[^\s│]+", "${1}WORKER"),
    // A dead letter's id follows from its headers, which hold the time.
    (r"(│ |id +┆ )[0-9a-f]{12}\b", "${1}ID"),
    (r"x-delivery-count: \d+", "x-delivery-count: COUNT"),
    // The login and the priorities depend on the servers of the run.
    (r"://[^:/@\s]+:\*\*\*@", "://USER:***@"),
    (r"┆ \w+ is a superuser", "┆ USER is a superuser"),
    (r"priorities: [^│]*", "priorities: …"),
    // Columns are as wide as what was redacted.
    (r"[─═]{2,}", "──"),
    (r"(?m) +│$", " │"),
];

/// Compares text with the snapshot of this name, with the names of the environment, ids, times, ports and versions redacted.
///
/// The files are in `snapshots` beside the test; `INSTA_UPDATE=always` writes them.
pub fn assert_text(folder: &str, name: &str, env: Option<&TestEnv>, text: &str) {
    let mut settings = insta::Settings::new();
    settings.set_snapshot_path(format!("{}/tests/it/{folder}/snapshots", env!("CARGO_MANIFEST_DIR")));
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    if let Some(env) = env {
        settings.add_filter(&env.name, "TEST");
    }
    for (pattern, replacement) in REDACTIONS {
        settings.add_filter(pattern, replacement);
    }
    let is_table = text.contains('┆');
    if is_table {
        settings.add_filter(r" {2,}(┆|│)", " $1");
    }
    settings.bind(|| insta::assert_snapshot!(name, text));
}

/// Runs a command that ends by itself; returns its arguments, exit code and both outputs as text.
pub fn run(command: &mut Command) -> String {
    // Names of the test would be broken over two lines.
    command.env("COLUMNS", "1000");
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (pid, (sender, ended)) = (child.id(), std::sync::mpsc::channel());
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    let output = ended.recv_timeout(TIMEOUT).unwrap_or_else(|_| {
        let _ = Command::new("kill").args(["-KILL", &pid.to_string()]).status();
        panic!("not ended within {TIMEOUT:?}: {command:?}")
    });
    let output = output.unwrap();
    let arguments: Vec<_> =
        command.get_args().map(|argument| argument.to_string_lossy().into_owned()).collect();
    transcript(&arguments, &output)
}

fn transcript(arguments: &[String], output: &Output) -> String {
    let mut text = format!("$ cns-events {}\n", arguments.join(" "));
    for (name, bytes) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
        if !bytes.is_empty() {
            text.push_str(&format!("--- {name}\n{}", String::from_utf8_lossy(bytes)));
            if !text.ends_with('\n') {
                text.push('\n');
            }
        }
    }
    text.push_str(&match output.status.code() {
        Some(code) => format!("--- exit code {code}\n"),
        None => "--- ended by a signal\n".to_owned(),
    });
    text
}
