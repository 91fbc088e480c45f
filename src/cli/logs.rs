//! Logs: human or JSON, always on stderr, so that what a command prints can be piped.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

/// Starts logging. Commands other than the service say only what went wrong, unless a level was asked for.
pub(super) fn start(log: &Log, service: bool) {
    let level = if service || log.level != "info" { log.level.as_str() } else { "warn" };
    // What fails in the client libraries is told once, where it is handled; directives can ask for more.
    let filter = EnvFilter::try_new(format!("lapin=off,tokio_postgres=warn,{level}"))
        .unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match log.format {
        LogFormat::Human => builder.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
}
