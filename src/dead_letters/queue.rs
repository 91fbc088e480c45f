//! The dead-letter queue as the operator reads it.
//!
//! Dead letters are read one at a time, as the bytes that they are, and stay held until the queue is closed. A dead letter leaves
//! the queue only by [`DeadLetterQueue::remove`].

use std::time::Duration;

use super::decode::DeadLetter;
use crate::amqp::{AmqpError, Browser, ConfirmChannel, HeldTag, Published, RawMessage};
use crate::broker::{BrokerEndpoint, TopologyError, queue_depth};

/// Longest wait for the next dead letter: as long as for any answer of the broker, because one that is not read is an error.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// Reply code of a queue that does not exist (AMQP 0-9-1, 1.2).
const NOT_FOUND: u16 = 404;

/// Dead letter that is held: the broker delivers it to no other consumer.
#[derive(Debug)]
pub struct Held {
    /// Name of the delivery for [`DeadLetterQueue::remove`].
    pub tag: HeldTag,
    /// Description of the dead letter.
    pub dead_letter: DeadLetter,
    /// Message as it stands in the queue.
    pub message: RawMessage,
}

/// Number of dead letters that were read, and that were in the queue when it was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Dead letters that were read.
    pub read: u32,
    /// Dead letters that were ready when the queue was opened.
    pub total: u32,
}

/// Failure to read the dead-letter queue.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// The connection was not established.
    #[error("cannot connect to RabbitMQ")]
    Connect(#[source] AmqpError),
    /// The queue does not exist.
    #[error("the dead-letter queue {0} does not exist\nhint: a worker declares it when it starts")]
    Missing(String),
    /// The broker did not tell how many dead letters there are.
    #[error("cannot count the dead letters")]
    Depth(#[source] TopologyError),
    /// The broker did not answer a request.
    #[error("cannot read the dead letters")]
    Read(#[source] AmqpError),
    /// A replayed copy was not published.
    #[error("cannot publish the copies of dead letters")]
    Publish(#[source] AmqpError),
    /// The acks or the end of the connection did not reach the broker.
    #[error("cannot acknowledge dead letters")]
    Acknowledge(#[source] AmqpError),
    /// Some dead letters were not delivered.
    #[error(
        "{0} dead letters were not read: another consumer holds or has taken them\nhint: run the command again"
    )]
    Unread(u32),
}

/// Dead-letter queue that is open. Dropping it requeues everything that is held.
pub struct DeadLetterQueue {
    browser: Browser,
    broker: BrokerEndpoint,
    /// Connection that publishes copies, once there is one to publish.
    channel: Option<ConfirmChannel>,
    progress: Progress,
    on_progress: Box<dyn FnMut(Progress) + Send>,
}

impl DeadLetterQueue {
    /// Connects, counts the dead letters that are ready, and reports each that is read to `on_progress`. A dead letter that arrives
    /// later is not read.
    ///
    /// # Errors
    /// The broker cannot be reached, or the queue does not exist.
    pub async fn open(
        broker: &BrokerEndpoint,
        name: &str,
        mut on_progress: impl FnMut(Progress) + Send + 'static,
    ) -> Result<Self, QueueError> {
        let browser = Browser::open(broker, name).await.map_err(QueueError::Connect)?;
        let depth = queue_depth(broker, name).await.map_err(|error| match error {
            TopologyError::Mismatch { code: NOT_FOUND, .. } => QueueError::Missing(name.to_owned()),
            error => QueueError::Depth(error),
        })?;
        let total = depth.ready;
        let progress = Progress { read: 0, total };
        on_progress(progress);
        Ok(DeadLetterQueue {
            browser: browser.with_wait(READ_TIMEOUT),
            broker: broker.clone(),
            channel: None,
            progress,
            on_progress: Box::new(on_progress),
        })
    }

    /// Reads and holds the next dead letter; returns `None` when all were read.
    ///
    /// # Errors
    /// The connection failed.
    pub async fn next(&mut self) -> Result<Option<Held>, QueueError> {
        if self.progress.read == self.progress.total {
            return Ok(None);
        }
        let Some(held) = self.browser.next().await.map_err(QueueError::Read)? else {
            return Ok(None);
        };
        self.progress.read += 1;
        (self.on_progress)(self.progress);
        Ok(Some(Held {
            tag: held.tag,
            dead_letter: DeadLetter::decode(&held.message),
            message: held.message,
        }))
    }

    /// Removes a dead letter for good.
    ///
    /// # Errors
    /// The connection failed.
    pub async fn remove(&mut self, tag: HeldTag) -> Result<(), QueueError> {
        self.browser.ack(tag).await.map_err(QueueError::Acknowledge)
    }

    /// Publishes copies of dead letters on a connection of their own; returns one outcome for each.
    pub(super) async fn publish(
        &mut self,
        exchange: &str,
        copies: &[RawMessage],
    ) -> Result<Vec<Published>, QueueError> {
        let mut channel = match self.channel.take() {
            Some(channel) => channel,
            None => ConfirmChannel::open(&self.broker).await.map_err(QueueError::Publish)?,
        };
        let published = channel.publish(exchange, copies).await.map_err(QueueError::Publish)?;
        self.channel = Some(channel);
        Ok(published)
    }

    /// Requeues everything that is held and not removed.
    ///
    /// # Errors
    /// The connection failed, or not every dead letter was read.
    pub async fn close(self) -> Result<(), QueueError> {
        let Progress { read, total } = self.progress;
        self.close_early().await?;
        if read < total { Err(QueueError::Unread(total - read)) } else { Ok(()) }
    }

    /// Does the same as [`DeadLetterQueue::close`] for a caller that has found what it looked for.
    ///
    /// # Errors
    /// The connection failed.
    pub async fn close_early(self) -> Result<(), QueueError> {
        self.browser.close().await.map_err(QueueError::Acknowledge)
    }
}
