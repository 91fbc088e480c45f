//! Completion scripts in the shells that they are for: bash, and zsh and fish where they are installed
//! (`scripts/services install zsh fish`); without one there is nothing to show for it.

use std::io::Write as _;
use std::process::Command;

use tempfile::NamedTempFile;

/// Lines, and words that their completion offers.
const OFFERED: [(&str, &[&str]); 7] = [
    ("cns-events d", &["demo", "dlq", "doctor"]),
    ("cns-events dlq ", &["list", "show", "replay", "purge", "export"]),
    ("cns-events dlq exp", &["export"]),
    ("cns-events dlq list --old", &["--older-than"]),
    ("cns-events query bom --all", &["--all-tenants", "--all"]),
    ("cns-events completions z", &["zsh"]),
    ("cns-events publish --org", &["--organization"]),
];

/// Lines with one completion, and the line after it.
const COMPLETED: [(&str, &str); 4] = [
    ("cns-events doct", "cns-events doctor "),
    ("cns-events dlq exp", "cns-events dlq export "),
    ("cns-events dlq list --old", "cns-events dlq list --older-than="),
    ("cns-events completions z", "cns-events completions zsh "),
];

fn script(shell: &str) -> NamedTempFile {
    let output =
        Command::new(env!("CARGO_BIN_EXE_cns-events")).args(["completions", shell]).output().unwrap();
    assert!(output.status.success());
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(&output.stdout).unwrap();
    file
}

/// Runs a shell; `None` where it is not installed.
fn run(shell: &str, arguments: &[&str]) -> Option<String> {
    match Command::new(shell).args(arguments).env("HOME", env!("CARGO_TARGET_TMPDIR")).output() {
        Ok(output) => {
            assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{shell}");
            Some(String::from_utf8(output.stdout).unwrap())
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("{shell} is not installed: `scripts/services install {shell}`; nothing was shown");
            None
        }
        Err(error) => panic!("{shell}: {error}"),
    }
}

fn check(shell: &str, line: &str, offered: &str, expected: &[&str]) {
    let offered: Vec<_> = offered.lines().filter_map(|line| line.split('\t').next()).map(str::trim).collect();
    for word in expected {
        assert!(offered.contains(word), "{shell}: {line}: {word} is missing in {offered:?}");
    }
}

/// The function is called as bash calls it: with the words, and the place of the last.
#[test]
fn bash_completes_every_word() {
    let script = script("bash");
    let call = r#"source "$1"; read -ra COMP_WORDS <<<"$2"; [[ "$2" != *" " ]] || COMP_WORDS+=("")
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); COMP_LINE=$2; COMP_POINT=${#2}
        function=$(complete -p cns-events | sed -E 's/.*-F ([^ ]+).*/\1/')
        "$function" cns-events "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
        printf '%s\n' "${COMPREPLY[@]}""#;
    for (line, expected) in OFFERED {
        let arguments = ["--norc", "-c", call, "bash", script.path().to_str().unwrap(), line];
        let Some(offered) = run("bash", &arguments) else { return };
        check("bash", line, &offered, expected);
    }
}

#[test]
fn fish_completes_every_word() {
    let script = script("fish");
    for (line, expected) in OFFERED {
        let path = script.path().to_str().unwrap();
        let arguments = ["--no-config", "-c", "source $argv[1]; complete -C $argv[2]", path, line];
        let Some(offered) = run("fish", &arguments) else { return };
        check("fish", line, &offered, expected);
    }
}

/// In a terminal of zsh's own, by the key that a person presses.
#[test]
fn zsh_completes_every_word() {
    let script = script("zsh");
    let driver = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/cli/complete.zsh");
    for (line, expected) in COMPLETED {
        let arguments = ["-f", driver, script.path().to_str().unwrap(), line];
        let Some(completed) = run("zsh", &arguments) else { return };
        assert_eq!(completed.trim_end_matches('\n'), expected);
    }
}
