//! Values and combinations that cannot work.

use super::keys::KEYS;
use super::listen::Listen;
use super::problems::Problems;
use super::secret::masked;
use super::types::{Amqp, Api, Config, Database, Worker};

/// Bytes of an exchange's or queue's name (a short string of AMQP 0-9-1).
const MAX_NAME_BYTES: usize = 255;

/// Minimum length of an HS256 secret, in bytes: the length of the hash (RFC 7518, section 3.2).
const MIN_SECRET_BYTES: usize = 32;

/// Adds one line for each problem: the key, its value and a value that works.
pub(super) fn check(config: &Config, problems: &mut Problems) {
    amqp(&config.amqp, problems);
    database(&config.database, problems);
    worker(&config.worker, config.amqp.consumer_timeout_seconds, problems);
    hold(&config.worker, &config.database, problems);
    listen("http.listen", &config.http.listen, problems);
    listen("api.listen", &config.api.listen, problems);
    api(&config.api, problems);
    if config.log.level.parse::<tracing_subscriber::EnvFilter>().is_err() {
        let problem = "is not a level; use error, warn, info, debug or trace";
        problems.add("log.level", &config.log.level, problem);
    }
}

/// Returns the default of a key, which is an example of a value.
fn example(key: &str) -> String {
    KEYS.get(key).map(super::keys::Key::example).unwrap_or_default()
}

fn at_least_one(problems: &mut Problems, key: &str, value: u64) {
    if value == 0 {
        problems.add(key, value, format_args!("must be at least 1; for example {}", example(key)));
    }
}

fn listen(key: &str, listen: &Listen, problems: &mut Problems) {
    if let Err(problem) = listen.parts() {
        let example = example(key);
        problems.add(key, listen, format_args!("{problem}; use an address and a port, such as {example}"));
    }
}

fn amqp(amqp: &Amqp, problems: &mut Problems) {
    if let Err(error) = amqp.endpoint("check") {
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
            problems.add(
                key,
                name,
                format_args!("must have 1 to {MAX_NAME_BYTES} bytes; for example {}", example(key)),
            );
        }
    }
    if amqp.exchange == amqp.dead_letter_exchange {
        let problem = "is also amqp.exchange, so that dead letters would be consumed again; use another name";
        let keys = ("amqp.dead_letter_exchange", "amqp.exchange");
        problems.add_combination(keys, &amqp.dead_letter_exchange, problem);
    }
    if amqp.queue == amqp.dead_letter_queue {
        let (keys, problem) =
            (("amqp.dead_letter_queue", "amqp.queue"), "is also amqp.queue; use another name");
        problems.add_combination(keys, &amqp.dead_letter_queue, problem);
    }
}

fn database(database: &Database, problems: &mut Problems) {
    if let Err(error) = database.endpoint() {
        problems.add("database.url", "***", error);
    } else if database.require_tls && database.is_plain() {
        let problem = "is not encrypted, and database.require_tls is true; use sslmode=verify-full";
        problems.add("database.url", masked(database.url.expose()), problem);
    }
    at_least_one(problems, "database.pool_size", database.pool_size as u64);
    at_least_one(problems, "database.statement_timeout_ms", database.statement_timeout_ms);
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
        at_least_one(problems, key, value);
    }
    if worker.batch_size > usize::from(worker.prefetch) {
        let problem = format_args!(
            "is larger than worker.prefetch ({}), so that no batch would ever be full; lower it or raise worker.prefetch",
            worker.prefetch
        );
        problems.add_combination(("worker.batch_size", "worker.prefetch"), worker.batch_size, problem);
    }
    if worker.hold_seconds.saturating_mul(2) > consumer_timeout_seconds {
        let problem = format_args!(
            "is more than half of the broker's consumer timeout (amqp.consumer_timeout_seconds, \
             {consumer_timeout_seconds}), after which the broker closes the channel of a held batch; use at most {}",
            consumer_timeout_seconds / 2
        );
        let keys = ("worker.hold_seconds", "amqp.consumer_timeout_seconds");
        problems.add_combination(keys, worker.hold_seconds, problem);
    }
    if worker.max_message_bytes > worker.buffer_bytes {
        let problem = format_args!(
            "is larger than worker.buffer_bytes ({}), so that a lane could not hold such a message; lower it or raise \
             worker.buffer_bytes",
            worker.buffer_bytes
        );
        let keys = ("worker.max_message_bytes", "worker.buffer_bytes");
        problems.add_combination(keys, worker.max_message_bytes, problem);
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
        let keys = ("worker.hold_seconds", "database.statement_timeout_ms");
        problems.add_combination(keys, worker.hold_seconds, problem);
    }
}

fn api(api: &Api, problems: &mut Problems) {
    if let Some(problem) = secret_problem(api.jwt_secret.expose()) {
        problems.add("api.jwt_secret", "***", problem);
    }
    at_least_one(problems, "api.request_timeout_ms", api.request_timeout_ms);
    at_least_one(problems, "api.stalled_minutes", api.stalled_minutes.into());
    for origin in api.origins().filter(|origin| !is_origin(origin)) {
        let problem = "is not an origin; use one like https://app.example.org, or * for all";
        problems.add("api.cors_origins", origin, problem);
    }
    if api.jwt_audience.is_empty() {
        let problem =
            format_args!("must name the audience of the tokens; for example {}", example("api.jwt_audience"));
        problems.add("api.jwt_audience", "\"\"", problem);
    }
}

/// Returns the reason why a secret of HS256 tokens cannot be used. An empty one is not set.
fn secret_problem(secret: &str) -> Option<String> {
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
