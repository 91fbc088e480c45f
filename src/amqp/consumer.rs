//! A consumer on a connection of its own, read where its deliveries are used: no other thread stands between the socket and
//! the lane, and what the lane does not read stays with the broker.

use std::time::Instant;

use super::AmqpError;
use super::connection::{Connection, Purpose};
use super::delivery::Delivery;
use super::heartbeat::Heartbeat;
use super::inbox::Inbox;
use super::method::Request;
use crate::broker::BrokerEndpoint;

/// Settlement of deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// Acknowledges a delivery; with `multiple` also every delivery of the channel before it.
    Ack {
        /// Delivery tag.
        tag: u64,
        /// Set to acknowledge every delivery up to the tag.
        multiple: bool,
    },
    /// Rejects a delivery: the broker requeues it, or dead-letters it by itself.
    Reject {
        /// Delivery tag.
        tag: u64,
        /// Set to requeue the delivery.
        requeue: bool,
    },
}

impl Settlement {
    fn request(self) -> Request<'static> {
        match self {
            Settlement::Ack { tag, multiple } => Request::Ack { tag, multiple },
            Settlement::Reject { tag, requeue } => Request::Reject { tag, requeue },
        }
    }
}

/// A connection with one channel that consumes. Channels that it has replaced stay open while deliveries on them are not settled.
pub struct Consumer {
    connection: Connection,
    inbox: Inbox,
    queue: String,
    tag: String,
    heartbeat: Heartbeat,
    /// Channel that consumes.
    channel: u16,
    /// Channels that consumed before and are still open, each with the time at which it was replaced.
    replaced: Vec<(u16, Instant)>,
}

impl Consumer {
    /// Connects and consumes from `queue`, at most `prefetch` messages ahead; `tag` names the consumer, `name` the connection. A body
    /// over `max_body_bytes` is skipped as it arrives.
    ///
    /// # Errors
    /// The failure of the broker or the network.
    pub async fn open(
        broker: &BrokerEndpoint,
        name: &str,
        queue: &str,
        tag: &str,
        prefetch: u16,
        max_body_bytes: usize,
    ) -> Result<Self, AmqpError> {
        let name = format!("{} {name}", broker.name());
        let connection = Connection::open(broker, &name, Purpose::Consuming).await?;
        let mut consumer = Consumer {
            heartbeat: Heartbeat::new(connection.heartbeat()),
            connection,
            inbox: Inbox::skipping_over(max_body_bytes),
            queue: queue.to_owned(),
            tag: tag.to_owned(),
            channel: 1,
            replaced: Vec::new(),
        };
        consumer.start(prefetch).await?;
        Ok(consumer)
    }

    /// Returns the channel that consumes.
    #[must_use]
    pub fn channel(&self) -> u16 {
        self.channel
    }

    /// Takes what was received since the last call.
    pub fn received(&mut self) -> std::vec::Drain<'_, Delivery> {
        self.inbox.deliveries.drain(..)
    }

    /// Waits until something was received. Cancel-safe.
    ///
    /// # Errors
    /// The connection, a channel or the consumer is gone.
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
                () = self.heartbeat.due() => {
                    self.heartbeat.silence()?;
                    self.send_heartbeat().await?;
                }
                filled = self.connection.fill() => {
                    filled?;
                    self.heartbeat.received();
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
            self.heartbeat.due().await;
            self.send_heartbeat().await?;
        }
    }

    async fn send_heartbeat(&mut self) -> Result<(), AmqpError> {
        if self.heartbeat.restart() { self.connection.send_heartbeat().await } else { Ok(()) }
    }

    /// Settles deliveries of a channel, in this order.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn settle(&mut self, channel: u16, settlements: &[Settlement]) -> Result<(), AmqpError> {
        for settlement in settlements {
            self.connection.write_method(channel, &settlement.request())?;
        }
        self.connection.flush().await
    }

    /// Ends consuming. Deliveries on their way are received within `budget_bytes`. The others are requeued by
    /// [`Consumer::restart`] or [`Consumer::return_all`]; nothing behind them is received either, so that an ack of several deliveries
    /// does not include them.
    ///
    /// # Errors
    /// The failure of the broker or the network.
    pub async fn cancel(&mut self, budget_bytes: usize) -> Result<(), AmqpError> {
        self.inbox.limit(budget_bytes);
        self.connection
            .call(self.channel, &Request::Cancel { tag: &self.tag }, &mut self.inbox)
            .await
            .map(drop)
    }

    /// Consumes again with another prefetch, on a new channel. The old channel stays open until [`Consumer::close_replaced`].
    ///
    /// # Errors
    /// The failure of the broker or the network.
    pub async fn restart(&mut self, prefetch: u16) -> Result<(), AmqpError> {
        let requeue = |tag: &u64| Settlement::Reject { tag: *tag, requeue: true };
        let over_budget: Vec<_> = self.inbox.over_budget.iter().map(requeue).collect();
        self.settle(self.channel, &over_budget).await?;
        self.replaced.push((self.channel, Instant::now()));
        let is_free = |channel: &u16| !self.replaced.iter().any(|(replaced, _)| replaced == channel);
        self.channel = (1..).find(is_free).unwrap_or(u16::MAX); // fewer channels than numbers are open
        self.inbox.clear();
        self.start(prefetch).await
    }

    /// Returns the channels that were replaced and are still open, each with the time at which it was replaced.
    #[must_use]
    pub fn replaced(&self) -> &[(u16, Instant)] {
        &self.replaced
    }

    /// Closes a channel that was replaced. Everything on it has to be settled.
    ///
    /// # Errors
    /// The failure of the broker or the network.
    pub async fn close_replaced(&mut self, channel: u16) -> Result<(), AmqpError> {
        if let Some(at) = self.replaced.iter().position(|(replaced, _)| *replaced == channel) {
            self.close_channel(channel).await?;
            self.replaced.remove(at);
        }
        Ok(())
    }

    async fn close_channel(&mut self, channel: u16) -> Result<(), AmqpError> {
        self.connection.call(channel, &Request::ChannelClose, &mut self.inbox).await.map(drop)
    }

    /// Returns everything that is not settled to the queue and closes the connection; the consumer has to be cancelled.
    ///
    /// A nack rather than the close alone: from RabbitMQ 4.3 on it does not count towards the delivery limit.
    ///
    /// # Errors
    /// The failure of the network; the broker requeues what is not settled in any case.
    pub async fn return_all(&mut self) -> Result<(), AmqpError> {
        for channel in self.replaced.iter().map(|(channel, _)| channel).chain([&self.channel]) {
            self.connection.write_method(*channel, &Request::NackAll)?;
        }
        // The broker handles a connection's frames in order: when it has closed, the nack has been done.
        self.connection.flush().await?;
        self.connection.close(&mut self.inbox).await
    }

    async fn start(&mut self, prefetch: u16) -> Result<(), AmqpError> {
        consume(&mut self.connection, &mut self.inbox, self.channel, &self.queue, &self.tag, prefetch).await
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
