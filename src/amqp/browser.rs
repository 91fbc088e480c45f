//! Browsing a queue: messages are held as long as their reader wants, and return to the queue unless they are acknowledged.

use std::collections::VecDeque;
use std::time::Duration;

use super::AmqpError;
use super::connection::{Connection, Purpose};
use super::consumer::consume;
use super::delivery::Delivery;
use super::inbox::Inbox;
use super::message::RawMessage;
use super::method::Request;
use crate::broker::BrokerEndpoint;

/// Messages that one channel holds at least; when it has them, the next channel consumes. A quorum queue hands out as many at once,
/// while a `basic.get` for each would be a commit of its own there.
const CHANNEL_MESSAGES: u16 = 500;

/// Time that the next message may take, unless the caller sets another. It is used up only where other consumers take messages
/// too, or where the broker is slow.
const DEFAULT_WAIT: Duration = Duration::from_secs(2);

/// Name of the consumer on each channel.
const TAG: &str = "cns-events";

/// A channel, and a delivery on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeldTag {
    channel: u16,
    delivery: u64,
}

/// A message that is held until it is acknowledged or the browser closes.
#[derive(Debug)]
pub struct HeldMessage {
    /// Names it in [`Browser::ack`].
    pub tag: HeldTag,
    /// The message.
    pub message: RawMessage,
}

/// A connection that holds messages of one queue, on as many channels as it takes.
pub struct Browser {
    connection: Connection,
    inbox: Inbox,
    queue: String,
    /// The channel that consumes; 0 where none does yet.
    channel: u16,
    /// Messages that this channel has handed out and that are not acknowledged.
    held: u16,
    /// Messages that a channel holds.
    per_channel: u16,
    waiting: VecDeque<Delivery>,
    wait: Duration,
}

impl Browser {
    /// Connects; consuming begins with the first message that is asked for.
    ///
    /// # Errors
    /// As the broker or the network gives them.
    pub async fn open(broker: &BrokerEndpoint, queue: &str) -> Result<Self, AmqpError> {
        Ok(Browser {
            connection: Connection::open(broker, broker.name(), Purpose::Browsing).await?,
            inbox: Inbox::default(),
            queue: queue.to_owned(),
            channel: 0,
            held: 0,
            per_channel: CHANNEL_MESSAGES,
            waiting: VecDeque::new(),
            wait: DEFAULT_WAIT,
        })
    }

    /// Sets the time that the next message may take.
    #[must_use]
    pub fn with_wait(self, wait: Duration) -> Self {
        Browser { wait, ..self }
    }

    /// Prepares for this many messages, so that the channels of the connection suffice for them.
    #[must_use]
    pub fn with_room_for(self, messages: u32) -> Self {
        let each = messages.div_ceil(self.connection.channel_max().into());
        let per_channel = u16::try_from(each).unwrap_or(u16::MAX).max(CHANNEL_MESSAGES);
        Browser { per_channel, ..self }
    }

    /// Takes the next message of the queue; `None` where none arrives in time, or every channel is full.
    ///
    /// # Errors
    /// As the broker or the network gives them.
    pub async fn next(&mut self) -> Result<Option<HeldMessage>, AmqpError> {
        if self.waiting.is_empty() && (self.channel == 0 || self.held >= self.per_channel) {
            if self.channel == self.connection.channel_max() {
                return Ok(None);
            }
            self.use_next_channel().await?;
        }
        while self.waiting.is_empty() && self.connection.fill_within(self.wait).await? {
            let frame = self.connection.receive_frame().await?;
            if let Some((_, response)) = self.inbox.accept(frame)? {
                return Err(response.unexpected());
            }
            self.keep_received();
        }
        Ok(self.waiting.pop_front().map(|delivery| HeldMessage {
            tag: HeldTag { channel: delivery.channel, delivery: delivery.tag },
            message: delivery.message(),
        }))
    }

    /// Acknowledges a message: it leaves its queue.
    ///
    /// # Errors
    /// As the network gives them.
    pub async fn ack(&mut self, tag: HeldTag) -> Result<(), AmqpError> {
        self.held = self.held.saturating_sub(u16::from(tag.channel == self.channel));
        self.connection.send(tag.channel, &Request::Ack { tag: tag.delivery, multiple: false }).await
    }

    /// Returns everything that is held to its queue, and closes: the broker has read the acks before it. Nothing can be read then.
    ///
    /// # Errors
    /// As the network gives them; the broker requeues what is held in any case.
    pub async fn close(&mut self) -> Result<(), AmqpError> {
        self.stop_consuming().await?;
        for channel in 1..=self.channel {
            // A nack rather than the close alone: from RabbitMQ 4.3 on it does not count towards a delivery limit.
            self.connection.send(channel, &Request::NackAll).await?;
        }
        self.connection.close(&mut self.inbox).await
    }

    /// Closes after the broker has closed a channel; everything that is held is in its queue then.
    pub async fn close_lost(&mut self) {
        // Each other channel may be closed by the broker too before it answers.
        for _ in 0..=self.channel {
            match self.connection.close(&mut self.inbox).await {
                Err(AmqpError::Closed { .. }) => {}
                _ => return,
            }
        }
    }

    /// Lets the next channel consume: the last one has all it may hold.
    async fn use_next_channel(&mut self) -> Result<(), AmqpError> {
        self.stop_consuming().await?;
        (self.channel, self.held) = (self.channel + 1, 0);
        let (connection, inbox) = (&mut self.connection, &mut self.inbox);
        consume(connection, inbox, self.channel, &self.queue, TAG, self.per_channel).await?;
        self.keep_received();
        Ok(())
    }

    async fn stop_consuming(&mut self) -> Result<(), AmqpError> {
        if self.channel > 0 {
            self.connection.call(self.channel, &Request::Cancel { tag: TAG }, &mut self.inbox).await?;
            self.keep_received();
        }
        Ok(())
    }

    fn keep_received(&mut self) {
        for delivery in self.inbox.deliveries.drain(..) {
            self.held += u16::from(delivery.channel == self.channel);
            self.waiting.push_back(delivery);
        }
    }
}
