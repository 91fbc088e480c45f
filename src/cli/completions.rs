//! `cns-events completions`

use clap::Args;
use clap_complete::Shell;

use super::output;

#[derive(Debug, Args)]
pub(super) struct Completions {
    /// Print the script for this shell
    shell: Shell,
}

impl Completions {
    pub(super) fn run(&self, definition: &mut clap::Command) {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, definition, "cns-events", &mut script);
        output::line(&String::from_utf8_lossy(&script));
    }
}
