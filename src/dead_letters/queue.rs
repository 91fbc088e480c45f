//! The dead-letter queue as the operator reads it.
//!
//! Dead letters are read one at a time, as the bytes that they are, and stay held until the queue is closed. A dead letter leaves
//! the queue only by [`DeadLetterQueue::remove`].

use std::time::Duration;

use super::decode::DeadLetter;
use super::known::{Known, Read};
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
    pub tag: Tag,
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
    #[error(transparent)]
    Connect(AmqpError),
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
///
/// Another connection goes on where the broker ends the reading because a dead letter was held for longer than its ack timeout; what
/// was read before is read again there, and not reported twice.
pub struct DeadLetterQueue {
    browser: Browser,
    broker: BrokerEndpoint,
    name: String,
    /// Connection that publishes copies, once there is one to publish.
    channel: Option<ConfirmChannel>,
    /// Number of this connection.
    connection: u32,
    known: Known,
    /// Messages that this connection has still to read.
    unread: u32,
    progress: Progress,
    on_progress: Box<dyn FnMut(Progress) + Send>,
}

/// Name of a held dead letter for [`DeadLetterQueue::remove`].
#[derive(Clone, Debug)]
pub struct Tag {
    connection: u32,
    tag: HeldTag,
    id: String,
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
        let (browser, total) = browse(broker, name).await?;
        let progress = Progress { read: 0, total };
        on_progress(progress);
        Ok(DeadLetterQueue {
            browser,
            broker: broker.clone(),
            name: name.to_owned(),
            channel: None,
            connection: 0,
            known: Known::default(),
            unread: total,
            progress,
            on_progress: Box::new(on_progress),
        })
    }

    /// Reads and holds the next dead letter; returns `None` when all were read.
    ///
    /// # Errors
    /// The connection failed.
    pub async fn next(&mut self) -> Result<Option<Held>, QueueError> {
        let mut reconnected = false;
        while self.unread > 0 {
            let held = match self.browser.next().await {
                Ok(Some(held)) => held,
                Ok(None) => return Ok(None),
                // A connection that ends without anything new would end like the last one.
                Err(error) if error.is_ack_timeout() && !reconnected => {
                    self.reconnect().await?;
                    reconnected = true;
                    continue;
                }
                Err(error) => return Err(QueueError::Read(error)),
            };
            self.unread -= 1;
            let dead_letter = DeadLetter::decode(&held.message);
            match self.known.read(&dead_letter.id) {
                Read::New => {}
                Read::Again => continue,
                Read::Removed => {
                    self.browser.ack(held.tag).await.map_err(QueueError::Acknowledge)?;
                    continue;
                }
            }
            self.progress.read += 1;
            (self.on_progress)(self.progress);
            let tag = Tag { connection: self.connection, tag: held.tag, id: dead_letter.id.clone() };
            return Ok(Some(Held { tag, dead_letter, message: held.message }));
        }
        Ok(None)
    }

    /// Removes a dead letter for good; what the broker has not acknowledged when its connection ends is removed on the next one.
    ///
    /// # Errors
    /// The connection failed.
    pub async fn remove(&mut self, tag: Tag) -> Result<(), QueueError> {
        if tag.connection != self.connection {
            self.known.remove_later(&tag.id);
            return Ok(());
        }
        self.known.removed(&tag.id);
        self.browser.ack(tag.tag).await.map_err(QueueError::Acknowledge)
    }

    /// Goes on after the broker has ended the reading. Everything that was held is in the queue again.
    async fn reconnect(&mut self) -> Result<(), QueueError> {
        self.browser.close_lost().await;
        let (browser, ready) = browse(&self.broker, &self.name).await?;
        self.browser = browser;
        self.connection += 1;
        self.known.lost();
        self.unread = ready;
        let outstanding = u32::try_from(self.known.outstanding()).unwrap_or(u32::MAX);
        self.progress.total = self.progress.read + ready.saturating_sub(outstanding);
        tracing::debug!(ready, outstanding, "the broker's ack timeout ended the reading: going on");
        Ok(())
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

    /// Returns the number of dead letters that were not read.
    #[must_use]
    pub fn not_read(&self) -> u32 {
        self.progress.total - self.progress.read
    }

    /// Requeues everything that is held and not removed.
    ///
    /// # Errors
    /// The connection failed, or not every dead letter was read.
    pub async fn close(self) -> Result<(), QueueError> {
        let unread = self.not_read();
        self.close_early().await?;
        if unread > 0 { Err(QueueError::Unread(unread)) } else { Ok(()) }
    }

    /// Does the same as [`DeadLetterQueue::close`] for a caller that has found what it looked for.
    ///
    /// # Errors
    /// The connection failed.
    pub async fn close_early(mut self) -> Result<(), QueueError> {
        loop {
            // What was removed while its connection was lost is removed now.
            while self.known.to_remove() > 0 && self.next().await?.is_some() {}
            match self.browser.close().await {
                Ok(()) => return Ok(()),
                Err(error) if error.is_ack_timeout() => self.reconnect().await?,
                Err(error) => return Err(QueueError::Acknowledge(error)),
            }
        }
    }
}

/// Connects to a queue, and counts the messages that are ready.
async fn browse(broker: &BrokerEndpoint, name: &str) -> Result<(Browser, u32), QueueError> {
    let browser = Browser::open(broker, name).await.map_err(QueueError::Connect)?;
    let depth = queue_depth(broker, name).await.map_err(|error| match error {
        TopologyError::Mismatch { code: NOT_FOUND, .. } => QueueError::Missing(name.to_owned()),
        error => QueueError::Depth(error),
    })?;
    Ok((browser.with_wait(READ_TIMEOUT).with_room_for(depth.ready), depth.ready))
}
