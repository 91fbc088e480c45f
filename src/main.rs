//! The `cns-events` command: see [`cns_events::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    cns_events::cli::run()
}
