//! A lane's channel and consumer: what comes in, what is waiting, and how much of it there may be.

use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use lapin::options::{BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Connection, Consumer};
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::batch::Batch;
use super::session::{SessionLost, unless_ended};

/// A lane is under load when its last batch had at least this fraction of `worker.batch_size`.
const LOADED: usize = 16;

/// A channel that consumes.
struct Subscription {
    channel: Channel,
    consumer: Consumer,
    tag: ShortString,
    prefetch: u16,
    /// The prefetch that is wanted instead: nothing comes any more, and when everything is settled a new channel
    /// takes this one's place. (Consuming again on the same channel kills it on RabbitMQ 3.10 with a quorum
    /// queue.)
    successor: Option<u16>,
}

/// Messages on their way in.
pub(super) struct Intake<'a> {
    shared: Shared,
    connection: &'a Connection,
    session: CancellationToken,
    lane: usize,
    subscription: Subscription,
    /// Received, and not yet handed out as a batch.
    waiting: Batch,
    /// Handed out, and not yet settled: bytes of the bodies.
    out_bytes: usize,
    /// What a message weighs: the mean of the recent ones, once there were any.
    mean_bytes: Option<usize>,
    /// Rows of the batch before.
    last_batch: usize,
}

impl<'a> Intake<'a> {
    /// Opens a channel and consumes.
    ///
    /// The first prefetch is small enough that `worker.buffer_bytes` holds even if every message is as large as
    /// a message may be; it grows once it is known how large they are.
    pub(super) async fn open(
        connection: &'a Connection,
        shared: &Shared,
        session: &CancellationToken,
        lane: usize,
    ) -> Result<Self, SessionLost> {
        let worker = &shared.config.worker;
        let prefetch = fitting(worker.buffer_bytes, worker.max_message_bytes, worker.prefetch);
        let opening = Subscription::open(connection, shared, lane, prefetch);
        Ok(Intake {
            subscription: unless_ended(session, opening).await?,
            shared: shared.clone(),
            connection,
            session: session.clone(),
            lane,
            waiting: Batch::default(),
            out_bytes: 0,
            mean_bytes: None,
            last_batch: 0,
        })
    }

    /// Waits until there is a batch. Cancel-safe: what was received is kept.
    ///
    /// An idle lane hands a message on at once. One whose last batch was of some size is under load, and waits
    /// a moment for this one to fill: each commit costs the same, however few rows it has.
    pub(super) async fn batch(&mut self) -> Result<Batch, SessionLost> {
        let worker = &self.shared.config.worker;
        let (rows, bytes) = (worker.batch_size, worker.batch_bytes);
        let linger = Duration::from_millis(worker.linger_ms);
        if self.waiting.is_empty() {
            self.receive().await?;
        }
        let loaded = self.last_batch >= rows.div_ceil(LOADED);
        if loaded && self.subscription.successor.is_none() && !self.full() {
            let filling = async {
                while !self.full() {
                    self.receive().await?;
                }
                Ok::<(), SessionLost>(())
            };
            if let Ok(filled) = tokio::time::timeout(linger, filling).await {
                filled?;
            }
        }
        let batch = self.waiting.take(rows, bytes);
        self.last_batch = batch.len();
        self.out_bytes = batch.bytes();
        Ok(batch)
    }

    /// Waits for the next message, and takes along what else has arrived, until there is a batch.
    async fn receive(&mut self) -> Result<(), SessionLost> {
        let next = async { Ok::<_, SessionLost>(self.subscription.consumer.next().await) };
        let first = unless_ended(&self.session, next).await?;
        self.keep(first)?;
        while !self.full()
            && let Some(more) = self.subscription.consumer.next().now_or_never()
        {
            self.keep(more)?;
        }
        Ok(())
    }

    /// Whether what waits is a batch. The rest stays with the client library until then.
    fn full(&self) -> bool {
        let worker = &self.shared.config.worker;
        self.waiting.len() >= worker.batch_size || self.waiting.bytes() >= worker.batch_bytes
    }

    /// The batch that was out is settled: looks whether the prefetch suits the messages there are.
    pub(super) async fn settled(&mut self, rows: usize) -> Result<(), SessionLost> {
        let worker = &self.shared.config.worker;
        let mean_bytes = mean(self.mean_bytes, self.out_bytes, rows);
        self.mean_bytes = Some(mean_bytes);
        self.out_bytes = 0;
        // Room for messages twice the mean, so that it does not have to be changed again at once.
        let fits = fitting(worker.buffer_bytes / 2, mean_bytes, worker.prefetch);
        let prefetch = self.subscription.prefetch;
        let unsuitable = fits >= prefetch.saturating_mul(2) || fits <= prefetch / 4;
        if unsuitable && self.subscription.successor.is_none() {
            tracing::debug!(lane = self.lane, from = prefetch, to = fits, mean_bytes, "prefetch changes");
            let session = self.session.clone();
            unless_ended(&session, self.stop_consuming()).await?;
            self.subscription.successor = Some(fits);
        }
        match self.subscription.successor {
            Some(prefetch) if self.waiting.is_empty() => self.replace(prefetch).await,
            _ => Ok(()),
        }
    }

    /// Ends the consumer and returns everything unsettled to the queue, quickly: other workers are waiting.
    ///
    /// Cancel, then `basic.nack`: closing the channel instead would count towards the delivery limit on every
    /// broker (from RabbitMQ 4.3 on a nack does not).
    pub(super) async fn give_back(mut self) -> Result<(), SessionLost> {
        let session = self.session.clone();
        let returned = unless_ended(&session, self.return_all()).await;
        self.shared.metrics.in_flight.sub(count(self.waiting.len()));
        // Where returning failed the channel is gone, and the broker requeues by itself.
        std::mem::take(&mut self.waiting).give_back();
        returned
    }

    async fn return_all(&mut self) -> Result<(), SessionLost> {
        self.stop_consuming().await?;
        // Tag 0 with multiple: everything on this channel, also the batch that was out.
        let all = BasicNackOptions { multiple: true, requeue: true };
        self.subscription.channel.basic_nack(0, all).await?;
        // The broker handles a channel's frames in order: when it closes, the nack has been done.
        Ok(self.subscription.channel.close(200, "done".into()).await?)
    }

    /// The channel is gone.
    pub(super) fn abandon(mut self) {
        self.shared.metrics.in_flight.sub(count(self.waiting.len()));
        std::mem::take(&mut self.waiting).abandon();
    }

    /// A new channel with another prefetch; on the old one everything is settled.
    async fn replace(&mut self, prefetch: u16) -> Result<(), SessionLost> {
        let opening = Subscription::open(self.connection, &self.shared, self.lane, prefetch);
        let next = unless_ended(&self.session, opening).await?;
        let old = std::mem::replace(&mut self.subscription, next);
        unless_ended(&self.session, old.channel.close(200, "done".into())).await
    }

    /// Cancels the consumer and keeps what was on its way.
    async fn stop_consuming(&mut self) -> Result<(), SessionLost> {
        if self.subscription.successor.is_some() {
            return Ok(()); // cancelled already
        }
        let tag = self.subscription.tag.clone();
        self.subscription.channel.basic_cancel(tag, BasicCancelOptions::default()).await?;
        // The stream ends after the last message that the broker had sent.
        while let Some(delivery) = self.subscription.consumer.next().await {
            self.keep(Some(delivery))?;
        }
        Ok(())
    }

    fn keep(&mut self, delivery: Option<lapin::Result<lapin::message::Delivery>>) -> Result<(), SessionLost> {
        let delivery = delivery.ok_or(SessionLost::Cancelled)??;
        let metrics = &self.shared.metrics;
        metrics.received.inc();
        metrics.in_flight.inc();
        if delivery.redelivered {
            metrics.redelivered.inc();
        }
        self.waiting.push(delivery);
        Ok(())
    }
}

impl Subscription {
    async fn open(
        connection: &Connection,
        shared: &Shared,
        lane: usize,
        prefetch: u16,
    ) -> Result<Self, SessionLost> {
        let channel = connection.create_channel().await?;
        channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
        let tag: ShortString = format!("{}.{lane}", shared.name).into();
        let queue = shared.config.amqp.queue.as_str().into();
        let options = BasicConsumeOptions::default();
        let consumer = channel.basic_consume(queue, tag.clone(), options, FieldTable::default()).await?;
        Ok(Subscription { channel, consumer, tag, prefetch, successor: None })
    }
}

/// How many messages of a size fit into a room: at least 1, at most `limit`.
fn fitting(room: usize, each: usize, limit: u16) -> u16 {
    u16::try_from(room / each.max(1)).unwrap_or(u16::MAX).clamp(1, limit)
}

/// Moves the mean a quarter of the way down towards that of the last batch, or all the way up at once.
fn mean(before: Option<usize>, bytes: usize, rows: usize) -> usize {
    let now = bytes / rows.max(1);
    match before {
        Some(before) if before > now => before - (before - now).div_ceil(4),
        _ => now,
    }
}

/// A count as a gauge has it.
pub(super) fn count(messages: usize) -> i64 {
    i64::try_from(messages).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefetch_fits_the_room() {
        const MIB: usize = 1024 * 1024;
        assert_eq!(fitting(64 * MIB, MIB, 2000), 64, "the first, before a message was seen");
        assert_eq!(fitting(32 * MIB, 760, 2000), 2000);
        assert_eq!(fitting(10, 100, 2000), 1);
    }

    #[test]
    fn the_mean_rises_at_once_and_falls_slowly() {
        assert_eq!(mean(None, 7600, 10), 760);
        assert_eq!(mean(Some(100), 10_000, 10), 1000);
        assert_eq!(mean(Some(1000), 1000, 10), 775);
    }
}
