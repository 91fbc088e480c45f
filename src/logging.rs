//! Logging setup: text or JSON, always on stderr, so that a command's output can be piped.

use std::io::Write;

use tracing_subscriber::EnvFilter;

use crate::config::{Config, Log, LogFormat};
use crate::terminal::{Stream, has_colors};

/// Starts logging. Commands other than the services log warnings and errors only, unless another level is configured.
pub(crate) fn start(log: &Log, service: bool) {
    let level = if service || log.level != "info" { log.level.as_str() } else { "warn" };
    // A failure of a client library is logged where it is handled. Directives in `log.level` can enable these targets.
    let filter = EnvFilter::try_new(format!("lapin=off,tokio_postgres=warn,{level}"))
        .unwrap_or_else(|_| EnvFilter::new("info"));
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(|| BestEffort(std::io::stderr()));
    match log.format {
        LogFormat::Human => builder.with_ansi(has_colors(Stream::Stderr)).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
}

/// A writer whose errors are dropped: on an error the subscriber would print to stderr, which panics where stderr is a closed
/// pipe or a file on a full disk.
struct BestEffort<W>(W);

impl<W: Write> Write for BestEffort<W> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let _ = self.0.write_all(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let _ = self.0.flush();
        Ok(())
    }
}

/// Logs a warning for each server of a service that is reached over the network without TLS.
pub(crate) fn warn_of_plain_connections(config: &Config, broker: bool) {
    if broker && config.amqp.is_plain() {
        tracing::warn!(
            "the connection to the broker on another machine is not encrypted\nhint: use amqps:// in amqp.uri"
        );
    }
    if config.database.is_plain() {
        tracing::warn!(
            "the connection to the database on another machine is not encrypted\n\
             hint: use sslmode=verify-full in database.url"
        );
    }
}
