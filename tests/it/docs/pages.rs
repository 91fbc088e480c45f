//! The documentation, checked against the program.

use std::path::Path;
use std::process::Command;

use crate::env::python::python_with;
use crate::env::{TestEnv, amqp_url, eventually};

fn read(path: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The guide's Python producer runs unchanged, and its event is stored. Needs python3 with venv and an index
/// to install pika from; without them there is nothing to show.
#[tokio::test(flavor = "multi_thread")]
async fn the_python_example_publishes() {
    let guide = read("docs/how-to/publish-from-any-language.md");
    let (_, rest) = guide.split_once("```python\n").expect("the guide has a Python example");
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

/// Tests that the documentation names exist.
#[test]
fn tests_named_in_the_docs_exist() {
    let document = read("docs/explanation/reliability.md");
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

/// Returns every Markdown page of the repository.
fn pages() -> Vec<String> {
    let listed = Command::new("git")
        .args(["ls-files", "-co", "--exclude-standard", "*.md"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output();
    let listed = String::from_utf8(listed.unwrap().stdout).unwrap();
    let pages: Vec<String> = listed
        .lines()
        .filter(|page| Path::new(env!("CARGO_MANIFEST_DIR")).join(page).exists())
        .map(str::to_owned)
        .collect();
    assert!(pages.len() > 40, "{pages:?}");
    pages
}

/// The anchor of a heading, as GitHub makes it.
fn anchor(heading: &str) -> String {
    let text = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = text.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// Every file, and every heading, that a page links to exists.
#[test]
fn links_in_the_docs_resolve() {
    for document in pages() {
        let folder = Path::new(&document).parent().unwrap();
        for link in read(&document).split("](").skip(1).filter_map(|rest| rest.split_once(')')) {
            let (target, fragment) = link.0.split_once('#').unwrap_or((link.0, ""));
            if target.contains("://") {
                continue;
            }
            let path = if target.is_empty() { document.clone().into() } else { folder.join(target) };
            assert!(
                Path::new(env!("CARGO_MANIFEST_DIR")).join(&path).exists(),
                "{document} links to {target}"
            );
            if !fragment.is_empty() {
                let page = read(path.to_str().unwrap());
                let found =
                    page.lines().filter(|line| line.starts_with('#')).any(|line| anchor(line) == fragment);
                assert!(found, "{document} links to {target}#{fragment}");
            }
        }
    }
}

/// Every `cns-events` command in a shell block has arguments that the command line accepts.
#[test]
fn commands_in_the_docs_are_valid() {
    let mut commands = 0;
    for document in pages() {
        let text = read(&document).replace("\\\n", " ");
        let blocks = text.split("```sh\n").skip(1).filter_map(|rest| rest.split_once("```"));
        for line in blocks.flat_map(|(block, _)| block.lines()) {
            let line = line.split(" #").next().unwrap().trim();
            let Some(arguments) = line.strip_prefix("cns-events ") else { continue };
            let arguments = arguments.trim_end_matches('&').split(" > ").next().unwrap();
            let arguments = arguments.replace("$BOM", "6f9619ff-8b86-4d01-b42d-00cf4fc964ff");
            let words = shlex(&arguments);
            let parsed = cns_events::cli::definition()
                .try_get_matches_from([vec!["cns-events".to_owned()], words].concat());
            if let Err(error) = parsed {
                panic!("{document}: {line}: {error}");
            }
            commands += 1;
        }
    }
    assert!(commands > 25, "{commands}");
}

/// Splits a command into its words; single quotes keep blanks together.
fn shlex(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (at, part) in text.split('\'').enumerate() {
        if at % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
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

/// A Python process gets no database and no allocator, and nothing that a fork breaks: signal handling, and random numbers of the
/// process's own.
#[test]
fn the_python_package_has_nothing_that_a_fork_breaks() {
    let features = ["tree", "--locked", "-e", "normal", "-p", "cns-events-python", "--prefix", "none"];
    let tree = Command::new(env!("CARGO"))
        .args(features)
        .args(["-f", "{p}|{f}"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8(tree.stdout).unwrap();
    assert!(tree.contains("tokio v"), "{tree}");
    let versioned = format!("cns-events-python v{}", env!("CARGO_PKG_VERSION"));
    assert!(tree.contains(&versioned), "one version for both packages: {versioned}");
    for line in tree.lines() {
        let name = line.split(' ').next().unwrap();
        assert!(!["diesel", "axum", "tikv-jemallocator", "signal-hook-registry"].contains(&name), "{line}");
        let features: Vec<&str> =
            line.split_once('|').map(|(_, of)| of.split(',').collect()).unwrap_or_default();
        assert!(!(name == "tokio" && features.contains(&"signal")), "{line}");
        assert!(!(name == "uuid" && features.contains(&"fast-rng")), "{line}");
    }
}

/// The queries and the roles that the documentation shows work unchanged.
#[tokio::test(flavor = "multi_thread")]
async fn queries_and_roles_of_the_docs_work() {
    let env = TestEnv::new("docs").await;
    assert!(env.command().args(["aggregate", "--once"]).output().unwrap().status.success());
    let binary = Path::new(env!("CARGO_BIN_EXE_cns-events"));
    let mut asked = 0;
    for document in ["README.md", "docs/how-to/query-events.md"] {
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
    let guide = read("docs/how-to/run.md");
    let roles: Vec<&str> = guide.split('`').filter(|code| code.starts_with("create role ")).collect();
    assert_eq!(roles.len(), 3);
    for role in roles {
        env.sql
            .batch_execute(&format!("begin; {role} rollback"))
            .await
            .unwrap_or_else(|error| panic!("{role}: {error:?}"));
    }
}
