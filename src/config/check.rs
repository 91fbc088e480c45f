//! Values and combinations that cannot work.

use std::fmt::Display;

use super::secret::masked;
use super::types::{Amqp, Api, Config, Database, Worker};
use crate::broker::BrokerEndpoint;
use crate::store::DatabaseEndpoint;

/// Bytes of an exchange's or queue's name (a short string of AMQP 0-9-1).
const MAX_NAME_BYTES: usize = 255;

/// Minimum length of an HS256 secret, in bytes: the length of the hash (RFC 7518, section 3.2).
const MIN_SECRET_BYTES: usize = 32;

/// Returns one line for each problem: the key, its value and a value that works.
pub(super) fn problems(config: &Config) -> Vec<String> {
    let mut problems = Problems::default();
    amqp(&config.amqp, &mut problems);
    database(&config.database, &mut problems);
    worker(&config.worker, config.amqp.consumer_timeout_seconds, &mut problems);
    hold(&config.worker, &config.database, &mut problems);
    api(&config.api, &mut problems);
    if config.log.level.parse::<tracing_subscriber::EnvFilter>().is_err() {
        let problem = "is not a level; use error, warn, info, debug or trace";
        problems.add("log.level", &config.log.level, problem);
    }
    problems.0
}

#[derive(Default)]
struct Problems(Vec<String>);

impl Problems {
    fn add(&mut self, key: &str, value: impl Display, problem: impl Display) {
        self.0.push(format!("{key} = {value}: {problem}"));
    }

    fn at_least_one(&mut self, key: &str, value: u64) {
        if value == 0 {
            self.add(key, value, "must be at least 1");
        }
    }
}

fn amqp(amqp: &Amqp, problems: &mut Problems) {
    if let Err(error) = BrokerEndpoint::new(amqp.uri.expose(), "check") {
        problems.add("amqp.uri", "***", error);
    } else if amqp.require_tls && amqp.is_plain() {
        let problem = "is not encrypted, and amqp.require_tls is true; use amqps://";
        problems.add("amqp.uri", masked(amqp.uri.expose()), problem);
    }
    for (key, name) in [
        ("amqp.exchange", &amqp.exchange),
        ("amqp.queue", &amqp.queue),
        ("amqp.dead_letter_exchange", &amqp.dead_letter_exchange),
        ("amqp.dead_letter_queue", &amqp.dead_letter_queue),
    ] {
        if name.is_empty() || name.len() > MAX_NAME_BYTES {
            problems.add(key, name, format_args!("must have 1 to {MAX_NAME_BYTES} bytes"));
        }
    }
    if amqp.exchange == amqp.dead_letter_exchange {
        let problem = "is also amqp.exchange, so that dead letters would be consumed again; use another name";
        problems.add("amqp.dead_letter_exchange", &amqp.dead_letter_exchange, problem);
    }
    if amqp.queue == amqp.dead_letter_queue {
        let problem = "is also amqp.queue; use another name";
        problems.add("amqp.dead_letter_queue", &amqp.dead_letter_queue, problem);
    }
}

fn database(database: &Database, problems: &mut Problems) {
    if let Err(error) = DatabaseEndpoint::from_url(database.url.expose()) {
        problems.add("database.url", "***", error);
    } else if database.require_tls && database.is_plain() {
        let problem = "is not encrypted, and database.require_tls is true; use sslmode=verify-full";
        problems.add("database.url", masked(database.url.expose()), problem);
    }
    problems.at_least_one("database.pool_size", database.pool_size as u64);
    problems.at_least_one("database.statement_timeout_ms", database.statement_timeout_ms);
    // PostgreSQL stores its timeout in 31 bits.
    if database.statement_timeout_ms > i32::MAX as u64 {
        let problem = format_args!("is more than PostgreSQL accepts; use at most {}", i32::MAX);
        problems.add("database.statement_timeout_ms", database.statement_timeout_ms, problem);
    }
}

fn worker(worker: &Worker, consumer_timeout_seconds: u64, problems: &mut Problems) {
    for (key, value) in [
        ("worker.lanes", worker.lanes as u64),
        ("worker.batch_size", worker.batch_size as u64),
        ("worker.prefetch", worker.prefetch.into()),
        ("worker.batch_bytes", worker.batch_bytes as u64),
        ("worker.buffer_bytes", worker.buffer_bytes as u64),
        ("worker.hold_seconds", worker.hold_seconds),
        ("worker.shutdown_seconds", worker.shutdown_seconds),
        ("worker.max_message_bytes", worker.max_message_bytes as u64),
    ] {
        problems.at_least_one(key, value);
    }
    if worker.batch_size > usize::from(worker.prefetch) {
        let problem = format_args!(
            "is larger than worker.prefetch ({}), so that no batch would ever be full; lower it or raise worker.prefetch",
            worker.prefetch
        );
        problems.add("worker.batch_size", worker.batch_size, problem);
    }
    if worker.hold_seconds.saturating_mul(2) > consumer_timeout_seconds {
        let problem = format_args!(
            "is more than half of the broker's consumer timeout (amqp.consumer_timeout_seconds, \
             {consumer_timeout_seconds}), after which the broker closes the channel of a held batch; use at most {}",
            consumer_timeout_seconds / 2
        );
        problems.add("worker.hold_seconds", worker.hold_seconds, problem);
    }
    if worker.max_message_bytes > worker.buffer_bytes {
        let problem = format_args!(
            "is larger than worker.buffer_bytes ({}), so that a lane could not hold such a message; lower it or raise \
             worker.buffer_bytes",
            worker.buffer_bytes
        );
        problems.add("worker.max_message_bytes", worker.max_message_bytes, problem);
    }
}

/// Checks that a statement can time out and be retried within the hold of its batch.
fn hold(worker: &Worker, database: &Database, problems: &mut Problems) {
    let timeout_ms = database.statement_timeout_ms;
    if worker.hold_seconds > 0 && worker.hold_seconds.saturating_mul(1000) < timeout_ms {
        let problem = format_args!(
            "is shorter than database.statement_timeout_ms ({timeout_ms}), so that a hold would end before its first \
             statement; use at least {}, or lower database.statement_timeout_ms",
            timeout_ms.div_ceil(1000)
        );
        problems.add("worker.hold_seconds", worker.hold_seconds, problem);
    }
}

fn api(api: &Api, problems: &mut Problems) {
    if let Some(problem) = secret_problem(api.jwt_secret.expose()) {
        problems.add("api.jwt_secret", "***", problem);
    }
    problems.at_least_one("api.request_timeout_ms", api.request_timeout_ms);
    problems.at_least_one("api.stalled_minutes", api.stalled_minutes.into());
    for origin in api.origins().filter(|origin| !is_origin(origin)) {
        let problem = "is not an origin; use one like https://app.example.org, or * for all";
        problems.add("api.cors_origins", origin, problem);
    }
    if api.jwt_audience.is_empty() {
        problems.add("api.jwt_audience", "", "must name the audience of the tokens");
    }
}

/// Returns the reason why a secret of HS256 tokens cannot be used. An empty one is not set.
fn secret_problem(secret: &str) -> Option<String> {
    let stray = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '\u{feff}' | '\u{200b}');
    if secret.starts_with(stray) || secret.ends_with(stray) {
        let problem = "begins or ends with a blank, a line end or a byte order mark, which would be a part of the key; remove it";
        return Some(problem.to_owned());
    }
    (1..MIN_SECRET_BYTES).contains(&secret.len()).then(|| {
        format!(
            "has {} bytes and could be guessed from a token; use at least {MIN_SECRET_BYTES}, such as the output of \
             `openssl rand -base64 48`",
            secret.len()
        )
    })
}

/// Returns whether a text is a scheme, a host and perhaps a port, and nothing else (RFC 6454, section 6.2).
fn is_origin(text: &str) -> bool {
    text == "*"
        || url::Url::parse(text).is_ok_and(|url| url.has_host() && url.origin().ascii_serialization() == text)
}
