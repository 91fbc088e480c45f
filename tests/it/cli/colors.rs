//! Colors and progress bars, in a terminal of the test's own (`script`), and piped.

use std::process::Command;

/// Colors that a terminal is told.
const COLOR: &str = "\x1b[";

/// Commands that need no server: help, a table, a log line.
const COMMANDS: [&str; 3] = [
    "--help",
    "doctor",
    "publish --type x --bom-id 6f9619ff-8b86-4d01-b42d-00cf4fc964ff --organization o --timeout 1",
];

/// Runs a command in a terminal, or piped; returns what it prints.
fn output(command: &str, in_terminal: bool, settings: &[(&str, &str)]) -> String {
    let line = format!("{} {command} 2>&1", env!("CARGO_BIN_EXE_cns-events"));
    let mut run = match in_terminal {
        true => Command::new("script"),
        false => Command::new("sh"),
    };
    match in_terminal {
        true => run.args(["-qec", &line, "/dev/null"]),
        false => run.args(["-c", &line]),
    };
    for name in ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "CI"] {
        run.env_remove(name);
    }
    run.env("TERM", "xterm-256color")
        .env("AMQP_URL", "amqp://u@127.0.0.1:9/")
        .env("DATABASE_URL", "postgres://u@127.0.0.1:9/d")
        .envs(settings.iter().copied());
    let output = run.stdin(std::process::Stdio::null()).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn colors_follow_the_conventions_everywhere() {
    for command in COMMANDS {
        for (in_terminal, settings, expected) in [
            (true, &[][..], true),
            (true, &[("NO_COLOR", "1")], false),
            (true, &[("TERM", "dumb")], false),
            (true, &[("CLICOLOR", "0")], false),
            (false, &[], false),
            (false, &[("CLICOLOR_FORCE", "1")], true),
            // An empty variable counts as not set (no-color.org).
            (true, &[("NO_COLOR", "")], true),
        ] {
            let text = output(command, in_terminal, settings);
            assert!(!text.is_empty(), "{command}");
            assert_eq!(
                text.contains(COLOR),
                expected,
                "{command}, terminal {in_terminal}, {settings:?}: {text:?}"
            );
        }
    }
}

/// A progress bar is redrawn, which a dumb terminal shows as many lines.
#[test]
fn a_dumb_terminal_gets_no_progress_bar() {
    let command = "publish --dry-run -f tests/inputs/lines/array.json";
    let plain = output(command, true, &[("TERM", "dumb")]);
    assert_eq!(plain, "valid: 3, failed: 0\r\n");
}
