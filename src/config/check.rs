//! Values and combinations that cannot work.

use super::Config;
use crate::broker::BrokerEndpoint;
use crate::store::DatabaseEndpoint;

/// One line for each: the key, what it holds and what would do.
pub(super) fn problems(config: &Config) -> Vec<String> {
    let mut problems = Vec::new();
    let mut refuse = |key: &str, holds: &dyn std::fmt::Display, what: String| {
        problems.push(format!("{key} = {holds}: {what}"));
    };
    let worker = &config.worker;
    if let Err(error) = BrokerEndpoint::new(config.amqp.uri.expose(), "check") {
        refuse("amqp.uri", &super::masked(config.amqp.uri.expose()), error.to_string());
    }
    if let Err(error) = DatabaseEndpoint::from_url(config.database.url.expose()) {
        refuse("database.url", &super::masked(config.database.url.expose()), error.to_string());
    }
    for (key, name) in [
        ("amqp.exchange", &config.amqp.exchange),
        ("amqp.queue", &config.amqp.queue),
        ("amqp.dead_letter_exchange", &config.amqp.dead_letter_exchange),
        ("amqp.dead_letter_queue", &config.amqp.dead_letter_queue),
    ] {
        // AMQP 0-9-1: a name is a short string.
        if name.is_empty() || name.len() > 255 {
            refuse(key, name, "must have 1 to 255 bytes".into());
        }
    }
    if config.amqp.exchange == config.amqp.dead_letter_exchange {
        refuse(
            "amqp.dead_letter_exchange",
            &config.amqp.dead_letter_exchange,
            "is amqp.exchange too: dead letters would come back as messages; name another".into(),
        );
    }
    if config.amqp.queue == config.amqp.dead_letter_queue {
        refuse(
            "amqp.dead_letter_queue",
            &config.amqp.dead_letter_queue,
            "is amqp.queue too; name another".into(),
        );
    }
    let mut at_least_one = |key: &str, value: u64| {
        if value == 0 {
            refuse(key, &value, "must be at least 1".into());
        }
    };
    at_least_one("worker.lanes", worker.lanes as u64);
    at_least_one("worker.batch_size", worker.batch_size as u64);
    at_least_one("worker.prefetch", worker.prefetch.into());
    at_least_one("worker.batch_bytes", worker.batch_bytes as u64);
    at_least_one("worker.buffer_bytes", worker.buffer_bytes as u64);
    at_least_one("worker.hold_seconds", worker.hold_seconds);
    at_least_one("worker.shutdown_seconds", worker.shutdown_seconds);
    at_least_one("worker.max_message_bytes", worker.max_message_bytes as u64);
    at_least_one("database.statement_timeout_ms", config.database.statement_timeout_ms);
    at_least_one("database.pool_size", config.database.pool_size as u64);
    at_least_one("api.request_timeout_ms", config.api.request_timeout_ms);
    // PostgreSQL counts its timeout in 31 bits.
    if config.database.statement_timeout_ms > i32::MAX as u64 {
        refuse(
            "database.statement_timeout_ms",
            &config.database.statement_timeout_ms,
            format!("is more than PostgreSQL can count, {}", i32::MAX),
        );
    }
    if worker.batch_size > usize::from(worker.prefetch) {
        refuse(
            "worker.batch_size",
            &worker.batch_size,
            format!(
                "is larger than worker.prefetch ({}), so that no batch would ever be full; lower it or raise worker.prefetch",
                worker.prefetch
            ),
        );
    }
    if worker.hold_seconds.saturating_mul(2) > config.amqp.consumer_timeout_seconds {
        refuse(
            "worker.hold_seconds",
            &worker.hold_seconds,
            format!(
                "is more than half of the broker's consumer timeout (amqp.consumer_timeout_seconds, {}), which would \
                 close the channel under a held batch; {} would do",
                config.amqp.consumer_timeout_seconds,
                config.amqp.consumer_timeout_seconds / 2
            ),
        );
    }
    if worker.max_message_bytes > worker.buffer_bytes {
        refuse(
            "worker.max_message_bytes",
            &worker.max_message_bytes,
            format!(
                "is larger than worker.buffer_bytes ({}), so that such a message could not be held",
                worker.buffer_bytes
            ),
        );
    }
    for origin in config.api.origins() {
        if !is_origin(origin) {
            refuse(
                "api.cors_origins",
                &origin,
                "is no origin; https://app.example.org would do, or * for all".into(),
            );
        }
    }
    if config.api.jwt_audience.is_empty() {
        refuse("api.jwt_audience", &"", "must name the audience that tokens are for".into());
    }
    if config.log.level.parse::<tracing_subscriber::EnvFilter>().is_err() {
        refuse(
            "log.level",
            &config.log.level,
            "is no level; error, warn, info, debug or trace would do".into(),
        );
    }
    problems
}

/// Scheme, host and perhaps a port, and nothing behind them (RFC 6454, section 6.2).
fn is_origin(text: &str) -> bool {
    text == "*"
        || url::Url::parse(text).is_ok_and(|url| url.has_host() && url.origin().ascii_serialization() == text)
}
