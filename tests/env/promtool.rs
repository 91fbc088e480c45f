//! Prometheus' checker.

use std::io::Write;
use std::process::{Command, Stdio};

use super::output_text;

/// Checks metrics in the text format by `promtool check metrics`, where it is installed.
pub fn assert_promtool_accepts(metrics: &str) {
    let checker = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut checker) = checker else {
        eprintln!("promtool is not installed: not checked");
        return;
    };
    checker.stdin.take().unwrap().write_all(metrics.as_bytes()).unwrap();
    let output = checker.wait_with_output().unwrap();
    assert!(output.status.success() && output_text(&output).trim().is_empty(), "{}", output_text(&output));
}
