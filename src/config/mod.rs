//! Configuration: section 6 of the contract.
//!
//! `config/default.toml` is built into the binary and is the list of keys: what does not stand there is
//! unknown, and each value must have the type it has there. One struct for each concern.

mod check;
mod layers;

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use serde::Deserialize;

use crate::broker::{QueueType, Topology};
use crate::event::PayloadPolicy;

pub use layers::{Setting, masked};

/// Everything that can be configured.
#[derive(Clone, Debug, Deserialize)]
pub struct Config {
    /// `amqp.*`
    pub amqp: Amqp,
    /// `database.*`
    pub database: Database,
    /// `worker.*`
    pub worker: Worker,
    /// `validation.*`
    pub validation: Validation,
    /// `http.*`
    pub http: Http,
    /// `log.*`
    pub log: Log,
    /// `api.*`
    pub api: Api,
    /// The effective value of every key, for `cns-events config`.
    #[serde(skip)]
    pub settings: Vec<Setting>,
}

/// `amqp.*`: the broker and the names on it.
#[derive(Clone, Debug, Deserialize)]
pub struct Amqp {
    /// The broker's URI.
    pub uri: Secret,
    /// The exchange that producers publish to.
    pub exchange: String,
    /// The queue that the pool consumes.
    pub queue: String,
    /// Its type, and that of the dead-letter queue.
    pub queue_type: QueueType,
    /// Levels of priority of a classic queue.
    pub max_priority: u8,
    /// Where dead letters are published.
    pub dead_letter_exchange: String,
    /// Where they are kept.
    pub dead_letter_queue: String,
    /// Whether to make what is missing, or only to check.
    pub declare: Declare,
    /// The broker's `consumer_timeout`, in seconds.
    pub consumer_timeout_seconds: u64,
}

impl Amqp {
    /// What has to exist on the broker.
    #[must_use]
    pub fn topology(&self) -> Topology {
        Topology {
            exchange: self.exchange.clone(),
            queue: self.queue.clone(),
            queue_type: self.queue_type,
            max_priority: self.max_priority,
            dead_letter_exchange: self.dead_letter_exchange.clone(),
            dead_letter_queue: self.dead_letter_queue.clone(),
            passive: self.declare == Declare::Passive,
        }
    }
}

/// `amqp.declare`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Declare {
    /// Make what is missing.
    Active,
    /// Check that everything is there.
    Passive,
}

/// `database.*`
#[derive(Clone, Debug, Deserialize)]
pub struct Database {
    /// The database's URL.
    pub url: Secret,
    /// Connections of the read API.
    pub pool_size: usize,
    /// Whether statements are prepared; false behind a pooler in transaction mode.
    pub prepared_statements: bool,
    /// Bound of each statement, in milliseconds.
    pub statement_timeout_ms: u64,
}

impl Database {
    /// Bound of each statement.
    #[must_use]
    pub fn statement_timeout(&self) -> Duration {
        Duration::from_millis(self.statement_timeout_ms)
    }
}

/// `worker.*`
#[derive(Clone, Debug, Deserialize)]
pub struct Worker {
    /// Channels, consumers, batches and connections at work side by side.
    pub lanes: usize,
    /// Rows of a batch at most.
    pub batch_size: usize,
    /// Bytes of a batch at most.
    pub batch_bytes: usize,
    /// How long a batch waits to fill while there is load, in milliseconds.
    pub linger_ms: u64,
    /// Messages a lane may hold.
    pub prefetch: u16,
    /// Bytes a lane may hold.
    pub buffer_bytes: usize,
    /// How long a batch is held during an outage, in seconds.
    pub hold_seconds: u64,
    /// How long a graceful stop may take, in seconds.
    pub shutdown_seconds: u64,
    /// The largest body, in bytes.
    pub max_message_bytes: usize,
}

/// `validation.*`
#[derive(Clone, Debug, Deserialize)]
pub struct Validation {
    /// What becomes of a payload that breaks its schema.
    #[serde(deserialize_with = "payload_policy")]
    pub payload: PayloadPolicy,
}

fn payload_policy<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<PayloadPolicy, D::Error> {
    match String::deserialize(deserializer)?.as_str() {
        "warn" => Ok(PayloadPolicy::Warn),
        "reject" => Ok(PayloadPolicy::Reject),
        "off" => Ok(PayloadPolicy::Off),
        other => Err(serde::de::Error::unknown_variant(other, &["warn", "reject", "off"])),
    }
}

/// `http.*`
#[derive(Clone, Debug, Deserialize)]
pub struct Http {
    /// Where metrics and health are served.
    pub listen: SocketAddr,
}

/// `log.*`
#[derive(Clone, Debug, Deserialize)]
pub struct Log {
    /// For people or for machines.
    pub format: LogFormat,
    /// A level, or directives.
    pub level: String,
}

/// `log.format`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One line for a person.
    Human,
    /// One JSON object a line.
    Json,
}

/// `api.*`: the read API.
#[derive(Clone, Debug, Deserialize)]
pub struct Api {
    /// Where it is served.
    pub listen: SocketAddr,
    /// The HS256 secret; empty for none.
    pub jwt_secret: Secret,
    /// A file with public keys; empty for none.
    pub jwks_file: String,
    /// The audience that a token must name.
    pub jwt_audience: String,
    /// The issuer that a token must name; empty is unchecked.
    pub jwt_issuer: String,
    /// Requests a second that a tenant may make of this process; 0 for any number.
    pub rate_limit: u32,
    /// How long an answer may take, in milliseconds.
    pub request_timeout_ms: u64,
    /// Origins whose pages may ask, with commas between them; `*` for all.
    pub cors_origins: String,
}

impl Api {
    /// The origins of [`Api::cors_origins`].
    pub fn origins(&self) -> impl Iterator<Item = &str> {
        self.cors_origins.split(',').map(str::trim).filter(|origin| !origin.is_empty())
    }
}

/// A value that no log, error or output may show.
#[derive(Clone, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// The value itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// Why the configuration cannot be used: one line for each thing that is wrong.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct ConfigError(pub Vec<String>);

impl Config {
    /// Reads the layers from the process's environment and the `config` folder.
    ///
    /// # Errors
    /// Everything that is wrong, one line each.
    pub fn load() -> Result<Self, ConfigError> {
        Self::from_layers(std::env::vars_os(), std::path::Path::new("config"))
    }

    pub(crate) fn from_layers(
        environment: impl IntoIterator<Item = (std::ffi::OsString, std::ffi::OsString)>,
        folder: &std::path::Path,
    ) -> Result<Self, ConfigError> {
        let (merged, settings) = layers::merge(environment, folder).map_err(ConfigError)?;
        let mut config: Config =
            merged.try_deserialize().map_err(|error| ConfigError(vec![error.to_string()]))?;
        config.settings = settings;
        let problems = check::problems(&config);
        if problems.is_empty() { Ok(config) } else { Err(ConfigError(problems)) }
    }
}

#[cfg(test)]
mod tests;
