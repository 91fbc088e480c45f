//! Python environments for tools that tests run.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Returns the Python of a virtual environment that can import these modules; the packages are installed from the index the
/// first time. `None` where that is not possible.
pub fn python_with(environment: &str, packages: &[&str], modules: &str) -> Option<PathBuf> {
    let venv = Path::new(env!("CARGO_TARGET_TMPDIR")).join(environment);
    let python = venv.join("bin/python");
    let ready = || {
        let import = format!("import {modules}");
        Command::new(&python).args(["-c", &import]).output().is_ok_and(|run| run.status.success())
    };
    if !ready() {
        let _ = Command::new("python3").args(["-m", "venv"]).arg(&venv).output();
        let _ = Command::new(&python).args(["-m", "pip", "install", "-q"]).args(packages).output();
    }
    ready().then_some(python)
}
