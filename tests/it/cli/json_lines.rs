//! JSON as programs write it, through `publish`: every event is published, or told with its line.

use std::io::{BufRead as _, BufReader, Write as _};
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::env::snapshot::{assert_text, run};
use crate::env::{TestEnv, event, output_text};

/// Folder of the files, from the repository's root.
const FOLDER: &str = "tests/inputs/lines";

/// Files and the number of their events. The last are siblings of the first four.
const FILES: [(&str, u64); 10] = [
    ("utf8-bom.jsonl", 3),
    ("utf16le.jsonl", 3),
    ("array.json", 3),
    ("pretty.json", 1),
    ("utf16be-without-mark.jsonl", 3),
    ("utf16le-array.json", 3),
    ("sequence.json-seq", 3),
    ("concatenated.json", 3),
    ("several-pretty.json", 3),
    ("joined-marks.jsonl", 6),
];

/// Returns `publish` with these arguments, without servers.
fn dry_run(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_cns-events"));
    command
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["publish", "--dry-run"])
        .args(arguments)
        .env_remove("CNS_EVENTS_PROFILE")
        .env("AMQP_URL", "amqp://u@127.0.0.1:9/")
        .env("DATABASE_URL", "postgres://u@127.0.0.1:9/d");
    command
}

/// Starts a command whose input the test writes and whose outputs it reads.
fn piped(mut command: Command) -> Child {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn json_in_every_form_is_published() {
    let env = TestEnv::new("jsonforms").await;
    env.declare().await;
    for (file, events) in FILES {
        let path = format!("{}/{FOLDER}/{file}", env!("CARGO_MANIFEST_DIR"));
        for (by, arguments) in [("name", vec!["-f", &path]), ("stdin", vec![]), ("-", vec!["--file", "-"])] {
            let mut command = env.command();
            command.args(["publish", "--json"]).args(arguments);
            let output = command.stdin(std::fs::File::open(&path).unwrap()).output().unwrap();
            assert!(output.status.success(), "{file} by {by}: {}", output_text(&output));
            let report: Value = serde_json::from_slice(&output.stdout).unwrap();
            assert_eq!(
                (&report["published"], &report["failed"]),
                (&events.into(), &0.into()),
                "{file} by {by}"
            );
        }
    }
}

/// An input that is not text is one error, and bad values are told with their lines.
#[test]
fn refused_json_is_as_recorded() {
    let mut text = String::new();
    for file in [
        "bad-lines.jsonl",
        "open-array.json",
        "events.jsonl.gz",
        "table.xml",
        "broken-utf16.jsonl",
        "missing.jsonl",
        "",
    ] {
        text.push_str(&run(&mut dry_run(&["-f", &format!("{FOLDER}/{file}")])));
    }
    assert_text("cli", "json-refused", None, &text);
    assert_text(
        "cli",
        "json-refused-json",
        None,
        &run(&mut dry_run(&["--json", "-f", "tests/inputs/lines/bad-lines.jsonl"])),
    );
    assert_text("cli", "json-nothing", None, &run(&mut dry_run(&[])));
}

/// A producer that runs for days has to see a bad line when it is bad.
#[test]
fn bad_lines_are_told_as_they_come() {
    let mut child = piped(dry_run(&[]));
    let mut stdin = child.stdin.take().unwrap();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut told = String::new();
    stdin.write_all(format!("{}\nnot json at all\n", event("one")).as_bytes()).unwrap();
    stderr.read_line(&mut told).unwrap();
    assert!(told.starts_with("cns-events: line 2: malformed_json"), "{told}");
    // The input is still open, and the next event is read.
    stdin.write_all(event("two").as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "valid: 2, failed: 1\n");
}

/// Two hundred megabytes without a line break, as text, as one string of an event, and as brackets.
#[test]
fn a_line_without_an_end_is_bounded_in_memory() {
    for begin in ["x", "{\"event_type\": \"", "{\"a\": [", "[{\"a\": [[["] {
        let mut child = piped(dry_run(&[]));
        let mut stdin = child.stdin.take().unwrap();
        let piece = if begin.ends_with('[') { [b'['; 65536] } else { [b'x'; 65536] };
        stdin.write_all(begin.as_bytes()).unwrap();
        for _ in 0..3200 {
            stdin.write_all(&piece).unwrap();
        }
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let peak_kib: u64 = peak.split_whitespace().next().unwrap().parse().unwrap();
        assert!(peak_kib < 100_000, "{begin}: {peak_kib} KiB");
        drop(stdin);
        let output = child.wait_with_output().unwrap();
        let text = output_text(&output);
        assert!(
            text.contains("line 1: too_large: ") && text.contains("valid: 0, failed: 1")
                || begin.starts_with('['),
            "{text}"
        );
    }
}

/// With nothing to send, no thread is left to complain.
#[tokio::test(flavor = "multi_thread")]
async fn publish_with_nothing_to_send_is_quiet() {
    let env = TestEnv::empty("nothing").await;
    env.declare_foreign_queue().await;
    let folder = tempfile::tempdir().unwrap();
    for arguments in [vec![], vec!["--spool", folder.path().to_str().unwrap()]] {
        for _ in 0..10 {
            let mut command = env.command();
            let output = command.arg("publish").args(&arguments).stdin(Stdio::null()).output().unwrap();
            assert_eq!(output_text(&output), "published: 0, failed: 0\nstdin has no events\n");
            assert!(output.status.success());
        }
    }
}
