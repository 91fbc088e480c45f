//! The help of every command.

use std::process::Command;

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
