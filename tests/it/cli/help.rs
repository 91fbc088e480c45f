//! The help of every command.

use std::process::Command;

use crate::env::output_text;
use crate::env::snapshot::assert_text;

fn help(path: &[String]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_cns-events")).args(path).arg("--help").output().unwrap();
    assert!(output.status.success(), "{path:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Returns the names below `Commands:`, without `help`.
fn subcommands(help: &str) -> Vec<String> {
    let Some((_, list)) = help.split_once("\nCommands:\n") else { return Vec::new() };
    let lines = list.lines().take_while(|line| !line.is_empty());
    let names = lines.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    names
        .filter_map(|line| line.split_whitespace().next())
        .filter(|name| *name != "help")
        .map(str::to_owned)
        .collect()
}

#[test]
fn help_of_every_command_is_as_recorded() {
    let mut paths: Vec<Vec<String>> = vec![Vec::new()];
    let mut seen = 0;
    while let Some(path) = paths.pop() {
        let text = help(&path);
        // Help is read in terminals of 80 columns, and its pipe has no width.
        assert_eq!(text.lines().find(|line| line.chars().count() > 80), None, "{path:?}");
        assert_text(
            "cli",
            &format!("help-{}", [vec!["cns-events".to_owned()], path.clone()].concat().join("-")),
            None,
            &text,
        );
        paths.extend(subcommands(&text).into_iter().map(|name| [path.clone(), vec![name]].concat()));
        seen += 1;
    }
    assert!(seen > 15, "{seen} commands");
}

/// Names that people try where another command has them: all of them are understood, so that no usage error is printed.
#[test]
fn flags_have_the_same_names_everywhere() {
    let uuid = "6f9619ff-8b86-4d01-b42d-00cf4fc964ff";
    for arguments in [
        &["publish", "--dry-run", "--type", "x", "--bom-id", uuid, "--organization", "o"][..],
        &["publish", "--dry-run", "--type", "x", "--bom", uuid, "--organization-id", "o"],
        &["publish", "--dry-run", "--type", "x", "--bom-id", uuid, "--tenant", uuid, "--workflow", "w"],
        &[
            "publish",
            "--dry-run",
            "--type",
            "x",
            "--bom-id",
            uuid,
            "--tenant-id",
            uuid,
            "--project",
            uuid,
            "--user",
            uuid,
        ],
        &["demo", "--bom", "missing.csv", "--organization", "o"],
        &["demo", "--bom", "missing.csv", "--organization-id", "o"],
        &["query", "errors", "--organization-id", "o"],
        &["query", "bom", uuid, "--tenant-id", uuid],
        &["dlq", "list", "--bom", uuid],
        &["dlq", "list", "--bom-id", uuid],
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_cns-events"));
        command.env("AMQP_URL", "amqp://u@127.0.0.1:9/").env("DATABASE_URL", "postgres://u@127.0.0.1:9/d");
        let output = command.args(arguments).output().unwrap();
        assert_ne!(output.status.code(), Some(2), "{arguments:?}: {}", output_text(&output));
    }
}
