//! A consumer on a connection of its own, read where its deliveries are used: no other thread stands between the socket and
//! the lane, and what the lane does not read stays with the broker.

use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use super::AmqpError;
use super::connection::{Connection, Purpose};
use super::delivery::Delivery;
use super::inbox::Inbox;
use super::method::Request;
use crate::broker::BrokerEndpoint;

/// The one channel of the connection.
const CHANNEL: u16 = 1;

/// Heartbeats that this side sends before a silent broker counts as gone. It sends one in half of the agreed interval, and the
/// broker is gone after two intervals (RabbitMQ's rule, too).
const MAX_SILENT_BEATS: u32 = 4;

/// Interval of the timer where no heartbeats are agreed: it has to be set to something.
const NO_HEARTBEAT: Duration = Duration::from_secs(3600);

/// A connection with one channel that consumes.
pub struct Consumer {
    connection: Connection,
    inbox: Inbox,
    queue: String,
    tag: String,
    beat: Pin<Box<Sleep>>,
    beat_interval: Option<Duration>,
    /// Beats since anything was received.
    silent_beats: u32,
}

impl Consumer {
    /// Connects and consumes from `queue`, at most `prefetch` messages ahead; `tag` names the consumer, `name` the connection.
    ///
    /// # Errors
    /// As the broker or the network gives them.
    pub async fn open(
        broker: &BrokerEndpoint,
        name: &str,
        queue: &str,
        tag: &str,
        prefetch: u16,
    ) -> Result<Self, AmqpError> {
        let name = format!("{} {name}", broker.name());
        let connection = Connection::open(broker, &name, Purpose::Consuming).await?;
        let beat_interval = connection.heartbeat().map(|agreed| agreed / 2);
        let mut consumer = Consumer {
            connection,
            inbox: Inbox::default(),
            queue: queue.to_owned(),
            tag: tag.to_owned(),
            beat: Box::pin(tokio::time::sleep(beat_interval.unwrap_or(NO_HEARTBEAT))),
            beat_interval,
            silent_beats: 0,
        };
        consumer.start(prefetch).await?;
        Ok(consumer)
    }

    /// Takes what was received since the last call.
    pub fn received(&mut self) -> std::vec::Drain<'_, Delivery> {
        self.inbox.deliveries.drain(..)
    }

    /// Waits until something was received. Cancel-safe.
    ///
    /// # Errors
    /// The connection, the channel or the consumer is gone.
    pub async fn receive(&mut self) -> Result<(), AmqpError> {
        loop {
            while let Some(frame) = self.connection.take_frame()? {
                if let Some((_, response)) = self.inbox.accept(frame)? {
                    return Err(response.unexpected());
                }
            }
            if !self.inbox.deliveries.is_empty() {
                return Ok(());
            }
            tokio::select! {
                biased;
                () = self.beat.as_mut() => {
                    self.silent_beats += 1;
                    if self.beat_interval.is_some() && self.silent_beats > MAX_SILENT_BEATS {
                        return Err(AmqpError::Silence);
                    }
                    self.send_heartbeat().await?;
                }
                filled = self.connection.fill() => {
                    filled?;
                    self.silent_beats = 0;
                }
            }
        }
    }

    /// Sends heartbeats and reads nothing: the broker waits. Ends only with a failure. Cancel-safe.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn heartbeat_only(&mut self) -> Result<std::convert::Infallible, AmqpError> {
        loop {
            self.beat.as_mut().await;
            self.send_heartbeat().await?;
        }
    }

    async fn send_heartbeat(&mut self) -> Result<(), AmqpError> {
        self.beat.as_mut().reset(Instant::now() + self.beat_interval.unwrap_or(NO_HEARTBEAT));
        match self.beat_interval {
            Some(_) => self.connection.send_heartbeat().await,
            None => Ok(()),
        }
    }

    /// Acknowledges a delivery; with `multiple` also every one before it.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn ack(&mut self, tag: u64, multiple: bool) -> Result<(), AmqpError> {
        self.connection.send(CHANNEL, &Request::Ack { tag, multiple }).await
    }

    /// Refuses a delivery: the broker requeues it, or dead-letters it by itself.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn reject(&mut self, tag: u64, requeue: bool) -> Result<(), AmqpError> {
        self.connection.send(CHANNEL, &Request::Reject { tag, requeue }).await
    }

    /// Ends consuming. What was on its way is received within `budget_bytes`; the rest stays unsettled, and nothing behind it is
    /// received either: an ack of several must not take it along.
    ///
    /// # Errors
    /// As the broker or the network gives them.
    pub async fn cancel(&mut self, budget_bytes: usize) -> Result<(), AmqpError> {
        self.inbox.limit(budget_bytes);
        self.connection.call(CHANNEL, &Request::Cancel { tag: &self.tag }, &mut self.inbox).await.map(drop)
    }

    /// Consumes again with another prefetch, on a new channel: on the old one everything has to be settled.
    ///
    /// # Errors
    /// As the broker or the network gives them.
    pub async fn restart(&mut self, prefetch: u16) -> Result<(), AmqpError> {
        self.connection.call(CHANNEL, &Request::ChannelClose, &mut self.inbox).await?;
        self.inbox.clear();
        self.start(prefetch).await
    }

    /// Returns everything that is not settled to the queue and closes the connection; the consumer has to be cancelled.
    ///
    /// A nack rather than the close alone: from RabbitMQ 4.3 on it does not count towards the delivery limit.
    ///
    /// # Errors
    /// As the network gives them; the broker requeues what is not settled in any case.
    pub async fn return_all(&mut self) -> Result<(), AmqpError> {
        // The broker handles a connection's frames in order: when it has closed, the nack has been done.
        self.connection.send(CHANNEL, &Request::NackAll).await?;
        self.connection.close(&mut self.inbox).await
    }

    async fn start(&mut self, prefetch: u16) -> Result<(), AmqpError> {
        consume(&mut self.connection, &mut self.inbox, CHANNEL, &self.queue, &self.tag, prefetch).await
    }
}

/// Opens a channel that consumes, at most `prefetch` messages ahead.
pub(super) async fn consume(
    connection: &mut Connection,
    inbox: &mut Inbox,
    channel: u16,
    queue: &str,
    tag: &str,
    prefetch: u16,
) -> Result<(), AmqpError> {
    connection.call(channel, &Request::ChannelOpen, inbox).await?;
    connection.call(channel, &Request::Qos { prefetch }, inbox).await?;
    connection.call(channel, &Request::Consume { queue, tag }, inbox).await.map(drop)
}
