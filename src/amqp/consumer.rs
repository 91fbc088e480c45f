//! A consumer on a connection of its own, read where its deliveries are used: no other thread stands between the socket and
//! the lane, and what the lane does not read stays with the broker.

use std::pin::Pin;
use std::time::Duration;

use lapin::protocol::{AMQPClass, basic, channel, connection};
use lapin::types::FieldTable;
use tokio::time::{Instant, Sleep};

use super::delivery::{Arriving, Delivery};
use super::handshake::Use;
use super::transport::{AmqpError, Frame, Transport};
use super::{CANCEL, CHANNEL, DELIVER};
use crate::broker::BrokerEndpoint;

/// A heartbeat is sent twice as often as was agreed, and a peer is gone that was silent for twice as long (RabbitMQ's rule,
/// too).
const SILENT_BEATS: u32 = 4;

/// Where there are no heartbeats nothing is looked at; the timer has to be set to something.
const NO_HEARTBEAT: Duration = Duration::from_secs(3600);

/// A connection with one channel that consumes.
pub struct Consumer {
    frames: Transport,
    queue: String,
    tag: String,
    channel: u16,
    arriving: Option<Arriving>,
    received: Vec<Delivery>,
    /// While the consumer is being cancelled: bytes that may still be received. What is beyond goes back to the queue
    /// with everything that is not settled.
    room: Option<usize>,
    beat: Pin<Box<Sleep>>,
    every: Option<Duration>,
    /// Beats since anything was heard.
    silent: u32,
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
        let frames = Transport::open(broker, &format!("{} {name}", broker.name()), Use::Consuming).await?;
        let every = frames.heartbeat().map(|agreed| agreed / 2);
        let mut consumer = Consumer {
            frames,
            queue: queue.to_owned(),
            tag: tag.to_owned(),
            channel: CHANNEL,
            arriving: None,
            received: Vec::new(),
            room: None,
            beat: Box::pin(tokio::time::sleep(every.unwrap_or(NO_HEARTBEAT))),
            every,
            silent: 0,
        };
        consumer.start(prefetch).await?;
        Ok(consumer)
    }

    /// What was received since this was last asked.
    pub fn received(&mut self) -> std::vec::Drain<'_, Delivery> {
        self.received.drain(..)
    }

    /// Waits until something was received. Cancel-safe.
    ///
    /// # Errors
    /// The connection, the channel or the consumer is gone.
    pub async fn receive(&mut self) -> Result<(), AmqpError> {
        loop {
            while let Some(frame) = self.frames.read()? {
                if let Some(other) = self.keep(frame)? {
                    return Err(AmqpError::unexpected(&other.parse()?));
                }
            }
            if !self.received.is_empty() {
                return Ok(());
            }
            tokio::select! {
                biased;
                () = self.beat.as_mut() => {
                    self.silent += 1;
                    if self.every.is_some() && self.silent > SILENT_BEATS {
                        return Err(AmqpError::Silence);
                    }
                    self.send_heartbeat().await?;
                }
                filled = self.frames.fill() => {
                    filled?;
                    self.silent = 0;
                }
            }
        }
    }

    /// Only says that this side lives, and reads nothing: the broker waits. Never ends but by a failure. Cancel-safe.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn live(&mut self) -> Result<std::convert::Infallible, AmqpError> {
        loop {
            self.beat.as_mut().await;
            self.send_heartbeat().await?;
        }
    }

    async fn send_heartbeat(&mut self) -> Result<(), AmqpError> {
        self.beat.as_mut().reset(Instant::now() + self.every.unwrap_or(NO_HEARTBEAT));
        if self.every.is_some() {
            self.frames.write_heartbeat();
            self.frames.flush().await?;
        }
        Ok(())
    }

    /// Acknowledges a delivery; with `multiple` also every one before it.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn ack(&mut self, delivery_tag: u64, multiple: bool) -> Result<(), AmqpError> {
        let ack = basic::Ack { delivery_tag, multiple };
        self.frames.send(self.channel, AMQPClass::Basic(basic::AMQPMethod::Ack(ack))).await
    }

    /// Ends consuming. What was on its way is received, as far as it fits into `room` (bytes); the rest stays unsettled, and
    /// nothing behind it is received either: an ack of several must not take it along.
    ///
    /// # Errors
    /// As the broker or the network gives them.
    pub async fn cancel(&mut self, room: usize) -> Result<(), AmqpError> {
        self.room = Some(room);
        let cancel = basic::Cancel { consumer_tag: self.tag.as_str().into(), nowait: false };
        self.ask(self.channel, AMQPClass::Basic(basic::AMQPMethod::Cancel(cancel))).await.map(drop)
    }

    /// Consumes again with another prefetch, on a new channel: on the old one everything has to be settled.
    ///
    /// # Errors
    /// As the broker or the network gives them.
    pub async fn restart(&mut self, prefetch: u16) -> Result<(), AmqpError> {
        let close = channel::Close { reply_code: 200, reply_text: "done".into(), class_id: 0, method_id: 0 };
        self.ask(self.channel, AMQPClass::Channel(channel::AMQPMethod::Close(close))).await?;
        // A tag of the old channel would mean another message on the new one.
        self.received.clear();
        (self.arriving, self.room) = (None, None);
        self.start(prefetch).await
    }

    /// Returns everything that is not settled to the queue and says goodbye; the consumer has to be cancelled.
    ///
    /// A nack rather than the close alone: from RabbitMQ 4.3 on it does not count towards the delivery limit.
    ///
    /// # Errors
    /// As the network gives them; what was held goes back to its queue in any case.
    pub async fn return_all(&mut self) -> Result<(), AmqpError> {
        // Tag 0 with multiple: everything on this channel.
        let all = basic::Nack { delivery_tag: 0, multiple: true, requeue: true };
        self.frames.send(self.channel, AMQPClass::Basic(basic::AMQPMethod::Nack(all))).await?;
        // The broker handles a connection's frames in order: when it has closed, the nack has been done.
        let close =
            connection::Close { reply_code: 200, reply_text: "done".into(), class_id: 0, method_id: 0 };
        self.ask(0, AMQPClass::Connection(connection::AMQPMethod::Close(close))).await.map(drop)
    }

    /// Opens the channel, bounds it and consumes.
    async fn start(&mut self, prefetch: u16) -> Result<(), AmqpError> {
        use basic::{AMQPMethod, Consume, Qos};
        self.ask(self.channel, AMQPClass::Channel(channel::AMQPMethod::Open(channel::Open {}))).await?;
        let qos = Qos { prefetch_count: prefetch, global: false };
        self.ask(self.channel, AMQPClass::Basic(AMQPMethod::Qos(qos))).await?;
        let consume = Consume {
            queue: self.queue.as_str().into(),
            consumer_tag: self.tag.as_str().into(),
            no_local: false,
            no_ack: false,
            exclusive: false,
            nowait: false,
            arguments: FieldTable::default(),
        };
        self.ask(self.channel, AMQPClass::Basic(AMQPMethod::Consume(consume))).await.map(drop)
    }

    /// Sends a method and waits for the answer; what is delivered meanwhile is received.
    async fn ask(&mut self, channel: u16, method: AMQPClass) -> Result<AMQPClass, AmqpError> {
        self.frames.send(channel, method).await?;
        loop {
            let frame = self.frames.next().await?;
            match self.keep(frame)? {
                None => {}
                Some(frame @ Frame::Method(of, ..)) if of == channel => return frame.parse(),
                Some(frame) => return Err(AmqpError::unexpected(&frame.parse()?)),
            }
        }
    }

    /// Keeps what belongs to a delivery; gives back what does not.
    fn keep(&mut self, frame: Frame) -> Result<Option<Frame>, AmqpError> {
        let arriving = match frame {
            Frame::Method(_, DELIVER, arguments) if self.arriving.is_none() => {
                self.arriving.insert(Arriving::begin(&arguments)?)
            }
            Frame::Content(_, kind, payload) => {
                let arriving = self.arriving.as_mut();
                let arriving =
                    arriving.ok_or_else(|| AmqpError::Protocol("content without a method".into()))?;
                arriving.take(kind, payload)?;
                arriving
            }
            Frame::Method(_, CANCEL, _) => return Err(AmqpError::Cancelled),
            Frame::Method(..) => return Ok(Some(frame)),
        };
        if arriving.is_whole() {
            let delivery = self.arriving.take().map(Arriving::finish);
            self.received.extend(delivery.filter(|delivery| fits(&mut self.room, delivery.weight())));
        }
        Ok(None)
    }
}

/// Whether something fits into what room is left, where that is bounded; nothing does after something that did not.
fn fits(room: &mut Option<usize>, bytes: usize) -> bool {
    let Some(left) = room else { return true };
    let rest = left.checked_sub(bytes.max(1));
    *left = rest.unwrap_or(0);
    rest.is_some()
}

#[cfg(test)]
mod tests {
    use super::fits;

    #[test]
    fn nothing_fits_behind_what_did_not() {
        assert!(fits(&mut None, usize::MAX));
        let mut room = Some(10);
        assert!(fits(&mut room, 4));
        assert!(fits(&mut room, 6));
        assert!(!fits(&mut room, 0));
        let mut room = Some(10);
        assert!(!fits(&mut room, 11));
        assert!(!fits(&mut room, 1), "its place is behind one that went back");
        assert!(!fits(&mut Some(0), 0));
    }
}
