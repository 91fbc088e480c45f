//! The configuration as types: one struct for each table.

use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::listen::Listen;
use super::secret::Secret;
use crate::broker::{BrokerEndpoint, QueueType, Topology, UriError};
use crate::event::PayloadPolicy;
use crate::publisher::{PublisherConfig, SpoolWhen};
use crate::store::read::Reader;
use crate::store::{DatabaseEndpoint, UrlError};

/// The effective configuration.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
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
    /// `aggregate.*`
    pub aggregate: Aggregate,
    /// `publisher.*`
    pub publisher: Publisher,
    /// Value and origin of every key, for `cns-events config`.
    #[serde(skip)]
    pub settings: Vec<Setting>,
}

/// Origin of a value that nobody set.
pub const DEFAULT: &str = "default";

/// One key of the effective configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// Dotted name.
    pub key: String,
    /// Value, masked if it is a secret.
    pub value: String,
    /// Layer that set the value: `default`, a file or a variable.
    pub origin: String,
}

/// `amqp.*`: the broker, and the names of exchanges and queues.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct Amqp {
    /// URI of the broker.
    pub uri: Secret,
    /// Exchange that producers publish to.
    pub exchange: String,
    /// Queue that the pool of workers consumes.
    pub queue: String,
    /// Type of both queues.
    pub queue_type: QueueType,
    /// Priority levels of a classic queue.
    pub max_priority: u8,
    /// Exchange for dead letters.
    pub dead_letter_exchange: String,
    /// Queue that keeps dead letters.
    pub dead_letter_queue: String,
    /// Exchange for notices of what was stored; empty for none.
    pub stored_exchange: String,
    /// Declaration of exchanges and queues at the start.
    pub declare: Declare,
    /// The broker's `consumer_timeout`, in seconds.
    pub consumer_timeout_seconds: u64,
    /// Refuse an unencrypted connection to another machine.
    pub require_tls: bool,
    /// No layer sets the URI.
    #[serde(skip)]
    pub is_unset: bool,
}

impl Amqp {
    /// Returns the broker; `name` is what it shows of its connections.
    ///
    /// # Errors
    /// The URI cannot be used.
    pub fn endpoint(&self, name: &str) -> Result<BrokerEndpoint, UriError> {
        Ok(BrokerEndpoint::new(self.uri.expose(), name)?.with_note(self.note()))
    }

    /// Returns the configuration of a publisher to this broker and exchange.
    pub fn publisher(&self, app_id: &str) -> PublisherConfig {
        PublisherConfig::new(self.uri.expose(), app_id).exchange(&self.exchange).note(self.note())
    }

    /// Returns the note for errors about the broker.
    fn note(&self) -> &'static str {
        if self.is_unset { "the default: AMQP_URL is not set" } else { "" }
    }

    /// Returns whether connections leave this machine unencrypted.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.endpoint("check").is_ok_and(|broker| broker.is_plain())
    }

    /// Returns the exchanges, queues and bindings that the worker needs.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Declare {
    /// Declare missing exchanges and queues.
    Active,
    /// Check that all of them exist.
    Passive,
}

/// `database.*`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct Database {
    /// URL of the database.
    pub url: Secret,
    /// Connections of the read API.
    pub pool_size: usize,
    /// Prepare statements; false behind a pooler in transaction mode.
    pub prepared_statements: bool,
    /// Timeout of each statement, in milliseconds.
    pub statement_timeout_ms: u64,
    /// Refuse an unencrypted connection to another machine.
    pub require_tls: bool,
    /// No layer sets the URL.
    #[serde(skip)]
    pub is_unset: bool,
}

impl Database {
    /// Returns the database.
    ///
    /// # Errors
    /// The URL cannot be used.
    pub fn endpoint(&self) -> Result<DatabaseEndpoint, UrlError> {
        let note = if self.is_unset { "the default: DATABASE_URL is not set" } else { "" };
        Ok(DatabaseEndpoint::from_url(self.url.expose())?.with_note(note))
    }

    /// Returns whether connections leave this machine unencrypted.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.endpoint().is_ok_and(|database| database.is_plain())
    }

    /// Returns a reader with one connection.
    ///
    /// # Errors
    /// The URL cannot be used.
    pub fn reader(&self) -> Result<Reader, UrlError> {
        Ok(Reader::new(self.endpoint()?, 1, self.statement_timeout()))
    }

    /// Returns the timeout of each statement.
    #[must_use]
    pub fn statement_timeout(&self) -> Duration {
        Duration::from_millis(self.statement_timeout_ms)
    }
}

/// `worker.*`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct Worker {
    /// Number of lanes: each has a channel, a consumer, a batch and a database connection.
    pub lanes: usize,
    /// Maximum number of rows in a batch.
    pub batch_size: usize,
    /// Maximum size of a batch, in bytes.
    pub batch_bytes: usize,
    /// Time that a batch waits for more deliveries under load, in milliseconds.
    pub linger_ms: u64,
    /// Maximum number of unsettled deliveries of a lane.
    pub prefetch: u16,
    /// Maximum size of the unsettled deliveries of a lane, in bytes.
    pub buffer_bytes: usize,
    /// Time that a batch is held during an outage of the database, in seconds.
    pub hold_seconds: u64,
    /// Maximum duration of a graceful stop, in seconds.
    pub shutdown_seconds: u64,
    /// Maximum size of a message body, in bytes.
    pub max_message_bytes: usize,
    /// Treatment of a second event of a tenant with the same `event_id` and other data.
    pub conflicts: Conflicts,
}

/// `worker.conflicts`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Conflicts {
    /// Acknowledge it, and log the conflict.
    Log,
    /// Dead-letter it.
    DeadLetter,
}

/// `validation.*`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct Validation {
    /// Treatment of a payload that does not match the schema of its type.
    pub payload: PayloadPolicy,
}

/// `http.*`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct Http {
    /// Address of the server for metrics and health.
    pub listen: Listen,
}

/// `log.*`
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct Log {
    /// Format of the log lines.
    pub format: LogFormat,
    /// Level, or directives.
    pub level: String,
}

/// `log.format`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Text for people, one line for each event.
    Human,
    /// JSON, one object on each line.
    Json,
}

/// `api.*`: the read API.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct Api {
    /// Address of the server.
    pub listen: Listen,
    /// HS256 secret; empty for none.
    pub jwt_secret: Secret,
    /// Path of a file with public keys; empty for none.
    pub jwks_file: String,
    /// Audience that a token must name.
    pub jwt_audience: String,
    /// Issuer that a token must name; empty accepts any.
    pub jwt_issuer: String,
    /// Requests per second that one tenant may make to this process; 0 for no limit.
    pub rate_limit: u32,
    /// Maximum duration of a request, in milliseconds.
    pub request_timeout_ms: u64,
    /// Streams of this process.
    pub streams: usize,
    /// Streams of one tenant.
    pub streams_per_tenant: usize,
    /// Minutes of silence after which a running workflow counts as stalled.
    pub stalled_minutes: u32,
    /// Origins whose pages may call the API, separated by commas; `*` for all.
    pub cors_origins: String,
}

impl Api {
    /// Returns the origins in [`Api::cors_origins`].
    pub fn origins(&self) -> impl Iterator<Item = &str> {
        self.cors_origins.split(',').map(str::trim).filter(|origin| !origin.is_empty())
    }
}

/// `aggregate.*`: the task that keeps the summaries.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct Aggregate {
    /// Run the task within a worker.
    pub enabled: AggregateInWorker,
    /// Event types outside the contract's table that are counted by their own name, separated by commas.
    pub types: String,
}

/// `aggregate.enabled`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AggregateInWorker {
    /// In a worker whose login is a member of `cns_events_aggregate`.
    Auto,
    /// In every worker.
    Always,
    /// In no worker.
    Never,
}

/// `publisher.*`: the keys that producers read from their environment. The services only accept them.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
pub struct Publisher {
    /// Name of the producer in every message; empty for the program's name.
    pub app_id: String,
    /// Spool folder; empty for none.
    pub spool: String,
    /// Condition under which events are written to the spool.
    pub spool_when: SpoolWhen,
    /// Maximum size of the spool, in bytes.
    pub spool_bytes: u64,
    /// Maximum number of events in memory.
    pub buffer_events: usize,
    /// Maximum size of the events in memory, in bytes.
    pub buffer_bytes: usize,
    /// Maximum size of a message body, in bytes.
    pub max_message_bytes: usize,
    /// Time that a process waits at its exit for confirms, in milliseconds.
    pub shutdown_timeout_ms: u64,
    /// Publish events; otherwise they are checked and thrown away.
    pub enabled: bool,
    /// Insert each event on the caller's database session too.
    pub write_database: bool,
    /// URL of the read API; empty for none.
    pub read_url: String,
    /// Bearer token for the read API; empty for none.
    pub read_token: Secret,
}
