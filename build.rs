//! Determines the revision of the build: `CNS_EVENTS_REVISION` if it is set (an image build has no repository), else git's.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-env-changed=CNS_EVENTS_REVISION");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=migrations"); // the binary embeds them
    let set = std::env::var("CNS_EVENTS_REVISION").ok().filter(|revision| !revision.trim().is_empty());
    let revision = set.or_else(checked_out_revision).unwrap_or_else(|| "unknown".into());
    println!("cargo::rustc-env=CNS_EVENTS_BUILT_FROM={}", revision.trim());
}

/// Returns the checked-out commit, if this folder is the root of its repository and not a folder in another one.
fn checked_out_revision() -> Option<String> {
    let root = std::path::PathBuf::from(git(&["rev-parse", "--show-toplevel"])?);
    let here = std::env::var_os("CARGO_MANIFEST_DIR")?;
    if root.canonicalize().ok()? != std::path::Path::new(&here).canonicalize().ok()? {
        return None;
    }
    for reference in ["HEAD", "logs/HEAD"] {
        println!("cargo::rerun-if-changed={}", git(&["rev-parse", "--git-path", reference])?);
    }
    git(&["rev-parse", "--short=12", "HEAD"])
}

/// Returns the output of a git command that succeeds.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).output().ok().filter(|run| run.status.success())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
