//! What the documentation says is so.

use std::path::Path;
use std::process::Command;

use crate::stand::{Stand, amqp_url, until};

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The README's Python producer runs as it stands, and its event is stored. Needs python3 with venv and an index
/// to install pika from; without them there is nothing to show.
#[tokio::test(flavor = "multi_thread")]
async fn the_python_example_publishes() {
    let readme = read("README.md");
    let (_, rest) = readme.split_once("```python\n").expect("the README has a Python example");
    let example = rest.split_once("```").unwrap().0;
    let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join("pika");
    let python = venv.join("bin/python");
    let ready = |python: &Path| {
        Command::new(python).args(["-c", "import pika"]).output().is_ok_and(|run| run.status.success())
    };
    if !ready(&python) {
        let _ = Command::new("python3").args(["-m", "venv"]).arg(&venv).output();
        let _ = Command::new(&python).args(["-m", "pip", "install", "-q", "pika"]).output();
    }
    if !ready(&python) {
        eprintln!("python3 with pika cannot be had here: the example was not run");
        return;
    }
    let stand = Stand::new("python").await;
    let _worker = stand.worker().await;
    let run = Command::new(&python)
        .args(["-c", &example.replace("\"cns.events\"", &format!("\"{}\"", stand.exchange()))])
        .env("AMQP_URL", amqp_url())
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    until("it is stored", async || stand.rows().await == 1).await;
}

/// The tables of failures in the documentation are those of the code.
#[test]
fn the_tables_of_failures_are_the_codes() {
    use cns_events::broker::failure::REPLY_CODES;
    use cns_events::store::{Class, SQLSTATES};
    let document = read("docs/reliability.md");
    let mut sqlstates = String::from("| SQLSTATE | what becomes of the event | why |\n| --- | --- | --- |\n");
    for (code, class, why) in SQLSTATES {
        let end = match class {
            Class::Data => "data".to_owned(),
            Class::Held(reason) => format!("held (`{reason}`)"),
            Class::Unknown => "unknown".to_owned(),
        };
        sqlstates.push_str(&format!("| {code} | {end} | {why} |\n"));
    }
    assert!(document.contains(&sqlstates), "docs/reliability.md has to have:\n{sqlstates}");
    let mut codes = String::from("| code | name | class | what it means here |\n| --- | --- | --- | --- |\n");
    for (code, name, class, meaning) in REPLY_CODES {
        codes.push_str(&format!("| {code} | {name} | {} | {meaning} |\n", class.name()));
    }
    assert!(document.contains(&codes), "docs/reliability.md has to have:\n{codes}");
}

/// What the documentation says a test shows, a test of that name shows.
#[test]
fn the_tests_that_are_named_exist() {
    let document = read("docs/reliability.md");
    let named: Vec<&str> = document
        .split('`')
        .filter(|word| {
            word.contains("::") && word.chars().all(|c| c.is_ascii_alphanumeric() || "_:".contains(c))
        })
        .collect();
    assert!(named.len() > 25, "{named:?}");
    for name in named {
        let mut path: Vec<&str> = name.split("::").collect();
        let test = path.pop().unwrap();
        let module = path.join("/");
        let files =
            [format!("tests/it/{module}.rs"), format!("tests/{module}.rs"), format!("src/{module}.rs")];
        let found = files.iter().any(|file| {
            Path::new(env!("CARGO_MANIFEST_DIR")).join(file).exists()
                && read(file).contains(&format!("fn {test}("))
        });
        assert!(found, "{name}: no such test");
    }
}

/// Every key of the configuration stands in the README's or the file's own words, and every file linked exists.
#[test]
fn links_lead_somewhere() {
    for document in [
        "README.md",
        "CONTRIBUTING.md",
        "docs/architecture.md",
        "docs/publishing.md",
        "docs/reliability.md",
        "docs/adr/README.md",
    ] {
        let folder = Path::new(document).parent().unwrap();
        for link in read(document).split("](").skip(1).filter_map(|rest| rest.split_once(')')) {
            let target = link.0.split('#').next().unwrap();
            if !target.is_empty() && !target.contains("://") {
                let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join(target);
                assert!(path.exists(), "{document} links to {target}");
            }
        }
    }
}

/// A producer's dependencies stay light.
#[test]
fn the_publisher_feature_is_light() {
    let tree = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "-e",
            "normal",
            "--no-default-features",
            "--features",
            "publisher",
            "--prefix",
            "none",
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8(tree.stdout).unwrap();
    for heavy in ["diesel", "axum", "prometheus", "config", "clap"] {
        let found = tree.lines().find(|line| line.split(' ').next() == Some(heavy));
        assert_eq!(found, None);
    }
}
