//! Logging setup: text or JSON, always on stderr, so that a command's output can be piped.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

/// Starts logging. Commands other than the services log warnings and errors only, unless another level is configured.
pub(super) fn start(log: &Log, service: bool) {
    let level = if service || log.level != "info" { log.level.as_str() } else { "warn" };
    // A failure of a client library is logged where it is handled. Directives in `log.level` can enable these targets.
    let filter = EnvFilter::try_new(format!("lapin=off,tokio_postgres=warn,{level}"))
        .unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match log.format {
        LogFormat::Human => builder.with_ansi(std::io::stderr().is_terminal()).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
}
