//! The one place that declares exchanges, queues and bindings: section 1 of the contract.

use std::time::Duration;

use lapin::Connection;
use lapin::options::{QueueBindOptions, QueueDeclareOptions};
use lapin::types::{AMQPValue, FieldTable, LongString};

use super::exchange::declare_exchange;
use super::{BrokerEndpoint, ConnectError, Version, failure, refusal};
use crate::amqp::AmqpError;

/// Deliveries after which a quorum queue dead-letters a message.
const DELIVERY_LIMIT: i64 = 20;

/// Time limit for declaring everything.
const DECLARE_TIMEOUT: Duration = Duration::from_secs(30);

/// Time limit for closing a connection in order.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Binding key of the pool's queue.
const EVENTS: &str = "cns.#";

/// Type of the queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum QueueType {
    /// Replicated; dead-letters at least once.
    Quorum,
    /// Not replicated; dead-letters at most once; strict priorities on every broker.
    Classic,
}

impl QueueType {
    const fn name(self) -> &'static str {
        match self {
            QueueType::Quorum => "quorum",
            QueueType::Classic => "classic",
        }
    }
}

/// Exchanges, queues and bindings that have to exist.
#[derive(Clone, Debug)]
pub struct Topology {
    /// Exchange that producers publish to.
    pub exchange: String,
    /// Queue of the pool.
    pub queue: String,
    /// Type of both queues.
    pub queue_type: QueueType,
    /// Levels of priority of a classic queue, 0 for none.
    pub max_priority: u8,
    /// Exchange that dead letters are published to.
    pub dead_letter_exchange: String,
    /// Queue that keeps them.
    pub dead_letter_queue: String,
    /// Checks that everything exists, and declares nothing.
    pub passive: bool,
}

/// State of a queue when it is declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Declared {
    /// Messages that are ready.
    pub ready: u32,
    /// Consumers.
    pub consumers: u32,
    /// Set where the broker drops messages of the dead-letter queue after 20 deliveries: an older broker created the
    /// queue, without the argument that prevents it.
    pub limited: bool,
}

/// Reason why the topology is not as configured.
#[derive(Debug, thiserror::Error)]
pub enum TopologyError {
    /// An object exists with other arguments, or is missing where it may not be created. No retry fixes it.
    #[error("{reason}")]
    Mismatch {
        /// The broker's reply code.
        code: u16,
        /// The object, the broker's answer and the fix.
        reason: String,
    },
    /// No connection was opened.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The connection failed.
    #[error(transparent)]
    Broker(#[from] lapin::Error),
    /// The broker did not greet.
    #[error(transparent)]
    Greeting(#[from] AmqpError),
}

impl Topology {
    /// Declares what is missing and checks what is there, on a connection of its own. Returns the broker's version, where
    /// it says so.
    ///
    /// # Errors
    /// See [`TopologyError`].
    pub async fn ensure(&self, broker: &BrokerEndpoint) -> Result<Option<Version>, TopologyError> {
        let version = Version::ask(broker).await?;
        let connection = broker.connect("topology").await?;
        let declared = tokio::time::timeout(DECLARE_TIMEOUT, self.declare(&connection, version)).await;
        // Closing in order is a courtesy: where the broker is gone, nothing is lost.
        let _ = tokio::time::timeout(CLOSE_TIMEOUT, connection.close(200, "done".into())).await;
        let timed_out = |_| {
            let error =
                std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer to a declaration within 30 s");
            Err(lapin::Error::from(error).into())
        };
        declared.unwrap_or_else(timed_out).map(|()| version)
    }

    /// Declares what is missing and checks what is there.
    ///
    /// # Errors
    /// See [`TopologyError`].
    pub async fn declare(
        &self,
        connection: &Connection,
        version: Option<Version>,
    ) -> Result<(), TopologyError> {
        self.exchange(connection, &self.exchange).await?;
        self.exchange(connection, &self.dead_letter_exchange).await?;
        let dead = self.dead_letter_queue(connection, version).await?;
        if dead.limited {
            let queue = &self.dead_letter_queue;
            tracing::warn!(
                queue,
                "the broker drops a dead letter that was read 20 times, unless a policy sets another limit\nhint: run `cns-events doctor`"
            );
        }
        self.bind(connection, &self.dead_letter_queue, &self.dead_letter_exchange, "#").await?;
        self.pool_queue(connection).await?;
        self.bind(connection, &self.queue, &self.exchange, EVENTS).await
    }

    /// Describes the priorities that the queue has, for the log at start.
    #[must_use]
    pub fn priorities(&self, version: Option<Version>) -> String {
        match (self.queue_type, self.max_priority, version) {
            (QueueType::Classic, 0, _) => "none: classic queue without x-max-priority".into(),
            (QueueType::Classic, levels, _) => format!("{levels} strict levels: classic queue"),
            (QueueType::Quorum, _, None) => "as the broker's version has them: quorum queue".into(),
            (QueueType::Quorum, _, Some(version)) if version.major < 4 => {
                format!("none: RabbitMQ {version} ignores priorities in quorum queues")
            }
            (QueueType::Quorum, _, Some(version)) if (version.major, version.minor) < (4, 3) => {
                format!("two levels (0-4, 5 and more): quorum queue of RabbitMQ {version}")
            }
            (QueueType::Quorum, _, Some(version)) => {
                format!("32 strict levels: quorum queue of RabbitMQ {version}")
            }
        }
    }

    fn queue_arguments(&self) -> FieldTable {
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), text(self.queue_type.name()));
        arguments.insert("x-dead-letter-exchange".into(), text(&self.dead_letter_exchange));
        match self.queue_type {
            QueueType::Quorum => {
                arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(DELIVERY_LIMIT));
                // Dead-lettering at least once requires this overflow behaviour.
                arguments.insert("x-dead-letter-strategy".into(), text("at-least-once"));
                arguments.insert("x-overflow".into(), text("reject-publish"));
            }
            QueueType::Classic if self.max_priority > 0 => {
                arguments.insert("x-max-priority".into(), AMQPValue::LongLongInt(self.max_priority.into()));
            }
            QueueType::Classic => {}
        }
        arguments
    }

    pub(super) async fn exchange(&self, connection: &Connection, name: &str) -> Result<(), TopologyError> {
        let declared = declare_exchange(connection, name.into(), self.passive).await;
        declared.map_err(|error| refused(error, &format!("exchange {name}")))
    }

    /// Declares a queue. A refused declaration closes its channel, so that it uses a channel of its own.
    async fn queue(
        &self,
        connection: &Connection,
        name: &str,
        arguments: FieldTable,
    ) -> Result<Declared, TopologyError> {
        let channel = connection.create_channel().await?;
        let options =
            QueueDeclareOptions { durable: true, passive: self.passive, ..QueueDeclareOptions::default() };
        let queue = channel
            .queue_declare(name.into(), options, arguments)
            .await
            .map_err(|error| refused(error, &format!("queue {name}")))?;
        channel.close(200, "done".into()).await?;
        Ok(Declared { ready: queue.message_count(), consumers: queue.consumer_count(), limited: false })
    }

    /// Declares the queue of the pool.
    pub(super) async fn pool_queue(&self, connection: &Connection) -> Result<Declared, TopologyError> {
        self.queue(connection, &self.queue, self.queue_arguments()).await
    }

    /// Declares the dead-letter queue, in which reading does not consume a dead letter. From RabbitMQ 4.0 on a quorum queue has a
    /// delivery limit unless it is declared with -1; older brokers have none, and treat -1 as a limit that is always exceeded. A
    /// queue that another version created is used as it is.
    pub(super) async fn dead_letter_queue(
        &self,
        connection: &Connection,
        version: Option<Version>,
    ) -> Result<Declared, TopologyError> {
        let mut arguments = FieldTable::default();
        arguments.insert("x-queue-type".into(), text(self.queue_type.name()));
        let plain = arguments.clone();
        if self.queue_type == QueueType::Classic {
            return self.queue(connection, &self.dead_letter_queue, plain).await;
        }
        arguments.insert("x-delivery-limit".into(), AMQPValue::LongLongInt(-1));
        let limited = Self::limits_by_itself(version);
        let (wanted, other) = if limited { (arguments, plain) } else { (plain, arguments) };
        match self.queue(connection, &self.dead_letter_queue, wanted).await {
            Err(TopologyError::Mismatch { reason, .. }) if reason.contains("x-delivery-limit") => {
                let taken = self.queue(connection, &self.dead_letter_queue, other).await?;
                Ok(Declared { limited, ..taken })
            }
            declared => declared,
        }
    }

    /// Returns whether a quorum queue without the argument has a delivery limit.
    fn limits_by_itself(version: Option<Version>) -> bool {
        version.is_some_and(|version| version.major >= 4)
    }

    async fn bind(
        &self,
        connection: &Connection,
        queue: &str,
        exchange: &str,
        key: &str,
    ) -> Result<(), TopologyError> {
        if self.passive {
            return Ok(()); // AMQP has no way to ask about a binding
        }
        let channel = connection.create_channel().await?;
        channel
            .queue_bind(
                queue.into(),
                exchange.into(),
                key.into(),
                QueueBindOptions::default(),
                FieldTable::default(),
            )
            .await
            .map_err(|error| refused(error, &format!("binding of {queue} to {exchange}")))?;
        Ok(channel.close(200, "done".into()).await?)
    }
}

/// Returns how many messages a queue has ready, and its consumers, by a passive declaration. The one way to query it.
///
/// # Errors
/// The queue does not exist (a mismatch with code 404), or the connection failed.
pub async fn queue_depth(broker: &BrokerEndpoint, queue: &str) -> Result<Declared, TopologyError> {
    let connection = broker.connect("depth").await?;
    let declared = queue_depth_on(&connection, queue).await;
    // Closing in order is a courtesy: where the broker is gone, nothing is lost.
    let _ = tokio::time::timeout(CLOSE_TIMEOUT, connection.close(200, "done".into())).await;
    declared
}

/// Returns the same on an existing connection.
///
/// # Errors
/// See [`queue_depth`].
pub async fn queue_depth_on(connection: &Connection, queue: &str) -> Result<Declared, TopologyError> {
    let channel = connection.create_channel().await?;
    let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
    let declared = channel.queue_declare(queue.into(), options, FieldTable::default()).await;
    let declared = declared.map_err(|error| refused(error, &format!("queue {queue}")))?;
    Ok(Declared { ready: declared.message_count(), consumers: declared.consumer_count(), limited: false })
}

fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(LongString::from(value))
}

/// Separates errors that the operator has to fix from those that a retry fixes.
fn refused(error: lapin::Error, what: &str) -> TopologyError {
    let (code, answer) = match refusal::answer(&error) {
        Some((code, answer)) if failure::classify(code) == failure::Class::Operator => (code, answer),
        _ => return error.into(),
    };
    let fix = match code {
        404 => "create it, or set amqp.declare = \"active\"",
        403 | 530 => "grant the user configure permission, or create it and set amqp.declare = \"passive\"",
        _ => {
            "set the amqp.* keys to its arguments, delete it once it is empty, or set amqp.declare = \"passive\""
        }
    };
    let reason = answer.get_message().as_str();
    TopologyError::Mismatch { code, reason: format!("{what}: {reason}\nhint: {fix}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topology(queue_type: QueueType, max_priority: u8) -> Topology {
        Topology {
            exchange: "e".into(),
            queue: "q".into(),
            queue_type,
            max_priority,
            dead_letter_exchange: "dlx".into(),
            dead_letter_queue: "dead".into(),
            passive: false,
        }
    }

    #[test]
    fn each_type_gets_its_own_arguments_only() {
        let quorum = topology(QueueType::Quorum, 10).queue_arguments();
        assert!(quorum.contains_key("x-delivery-limit") && !quorum.contains_key("x-max-priority"));
        let classic = topology(QueueType::Classic, 10).queue_arguments();
        assert!(classic.contains_key("x-max-priority") && !classic.contains_key("x-delivery-limit"));
        assert!(!topology(QueueType::Classic, 0).queue_arguments().contains_key("x-max-priority"));
    }

    #[test]
    fn priorities_by_version() {
        let of = |major, minor| topology(QueueType::Quorum, 10).priorities(Some(Version { major, minor }));
        assert!(of(3, 13).starts_with("none"));
        assert!(of(4, 2).starts_with("two levels"));
        assert!(of(4, 3).starts_with("32 strict"));
        assert!(topology(QueueType::Classic, 10).priorities(None).starts_with("10 strict"));
    }
}
