//! The documentation, checked against the program.

use std::path::Path;
use std::process::Command;

use crate::env::python::python_with;
use crate::env::{TestEnv, amqp_url, eventually};

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The README's Python producer runs unchanged, and its event is stored. Needs python3 with venv and an index
/// to install pika from; without them there is nothing to show.
#[tokio::test(flavor = "multi_thread")]
async fn the_python_example_publishes() {
    let readme = read("README.md");
    let (_, rest) = readme.split_once("```python\n").expect("the README has a Python example");
    let example = rest.split_once("```").unwrap().0;
    let Some(python) = python_with("pika", &["pika"], "pika") else {
        eprintln!("python3 with pika cannot be had here: the example was not run");
        return;
    };
    let env = TestEnv::new("python").await;
    let _worker = env.worker().await;
    let run = Command::new(&python)
        .args(["-c", &example.replace("\"cns.events\"", &format!("\"{}\"", env.exchange()))])
        .env("AMQP_URL", amqp_url())
        .output()
        .unwrap();
    assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stderr));
    eventually("it is stored", async || env.rows().await == 1).await;
}

/// The tables of failures in the documentation are those of the code.
#[test]
fn failure_tables_in_the_docs_match_the_code() {
    use cns_events::broker::failure::REPLY_CODES;
    use cns_events::store::{FailureClass, SQLSTATES};
    let document = read("docs/reliability.md");
    let mut sqlstates = String::from("| SQLSTATE | what becomes of the event | why |\n| --- | --- | --- |\n");
    for (code, class, why) in SQLSTATES {
        let end = match class {
            FailureClass::Data => "data".to_owned(),
            FailureClass::Held(hold) => format!("held (`{}`)", hold.label()),
            FailureClass::Unknown => "unknown".to_owned(),
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

/// Tests that the documentation names exist.
#[test]
fn tests_named_in_the_docs_exist() {
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

/// Every file that a page links to exists.
#[test]
fn links_in_the_docs_resolve() {
    for document in [
        "README.md",
        "CONTRIBUTING.md",
        "docs/architecture.md",
        "docs/benchmarks/README.md",
        "docs/operations.md",
        "k8s/README.md",
        "docs/publishing.md",
        "docs/reading.md",
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

/// The queries and the roles that the documentation shows work unchanged.
#[tokio::test(flavor = "multi_thread")]
async fn queries_and_roles_of_the_docs_work() {
    let env = TestEnv::new("docs").await;
    let binary = Path::new(env!("CARGO_BIN_EXE_cns-events"));
    let mut asked = 0;
    for document in ["README.md", "docs/reading.md"] {
        for line in read(document).lines().filter(|line| line.starts_with("cns-events query ")) {
            let line = line.replace("cns-events", &binary.display().to_string());
            // What follows would follow for ever; Ctrl-C is its end.
            let line = if line.contains("--follow") {
                format!("timeout --preserve-status -s INT 3 {line}")
            } else {
                line
            };
            let mut shell = Command::new("sh");
            let starter = env.command();
            shell.envs(starter.get_envs().filter_map(|(name, value)| Some((name, value?))));
            let run = shell.args(["-c", &line]).current_dir(env.logs()).output().unwrap();
            assert!(run.status.success(), "{line}: {}", String::from_utf8_lossy(&run.stderr));
            asked += 1;
        }
    }
    assert!(asked >= 8, "{asked}");
    let reading = read("docs/reading.md");
    let roles: Vec<&str> = reading.split('`').filter(|code| code.starts_with("create role ")).collect();
    assert_eq!(roles.len(), 3);
    for role in roles {
        env.sql
            .batch_execute(&format!("begin; {role} rollback"))
            .await
            .unwrap_or_else(|error| panic!("{role}: {error:?}"));
    }
}
