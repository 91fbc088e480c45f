//! The revision that this is built from: `CNS_EVENTS_REVISION` where it is set (an image has no repository), else git's.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=CNS_EVENTS_REVISION");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=migrations"); // they are embedded
    let set = std::env::var("CNS_EVENTS_REVISION").ok().filter(|revision| !revision.trim().is_empty());
    let revision = set.or_else(of_the_repository).unwrap_or_else(|| "unknown".into());
    println!("cargo::rustc-env=CNS_EVENTS_BUILT_FROM={}", revision.trim());
}

/// The commit that is checked out, where this is a repository of its own and not a folder of somebody else's.
fn of_the_repository() -> Option<String> {
    let root = std::path::PathBuf::from(git(&["rev-parse", "--show-toplevel"])?);
    let here = std::env::var_os("CARGO_MANIFEST_DIR")?;
    if root.canonicalize().ok()? != std::path::Path::new(&here).canonicalize().ok()? {
        return None;
    }
    for moved in ["HEAD", "logs/HEAD"] {
        println!("cargo::rerun-if-changed={}", git(&["rev-parse", "--git-path", moved])?);
    }
    git(&["rev-parse", "--short=12", "HEAD"])
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok().filter(|run| run.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
