//! A lane's channel and consumer: what comes in, what is waiting, and how much of it there may be.

use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use lapin::options::{BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Connection, Consumer};

use super::Shared;
use super::batch::Batch;

/// The channel, or the connection under it, is gone.
#[derive(Debug, thiserror::Error)]
pub(super) enum SessionLost {
    /// The client library says why.
    #[error(transparent)]
    Broker(#[from] lapin::Error),
    /// The broker ended the consumer: its queue was deleted, or moved.
    #[error("the broker cancelled the consumer (was the queue deleted?)")]
    Cancelled,
    /// The channel was gone when an ack was sent.
    #[error("an ack was lost with its channel")]
    AckLost,
}

/// Messages on their way in.
pub(super) struct Intake {
    shared: Shared,
    channel: Channel,
    consumer: Consumer,
    tag: ShortString,
    prefetch: u16,
    /// Received, and not yet handed out as a batch.
    waiting: Batch,
    /// Handed out, and not yet settled: bytes of the bodies.
    out_bytes: usize,
    /// What a message weighs: the mean of the recent ones.
    mean_bytes: usize,
    /// Rows of the batch before.
    last_batch: usize,
}

impl Intake {
    /// Opens a channel and consumes.
    ///
    /// The first prefetch is small enough that `worker.buffer_bytes` holds even if every message is as large as
    /// a message may be; it grows once it is known how large they are.
    pub(super) async fn open(
        connection: &Connection,
        shared: &Shared,
        lane: usize,
    ) -> Result<Self, SessionLost> {
        let worker = &shared.config.worker;
        let channel = connection.create_channel().await?;
        let tag: ShortString = format!("{}.{lane}", shared.name).into();
        let prefetch = fitting(worker.buffer_bytes, worker.max_message_bytes, worker.prefetch);
        let consumer = consume(&channel, &shared.config.amqp.queue, &tag, prefetch).await?;
        Ok(Intake {
            shared: shared.clone(),
            channel,
            consumer,
            tag,
            prefetch,
            waiting: Batch::default(),
            out_bytes: 0,
            mean_bytes: worker.max_message_bytes,
            last_batch: 0,
        })
    }

    /// Waits for the next message and keeps it. Cancel-safe: what was received is kept.
    pub(super) async fn receive(&mut self) -> Result<(), SessionLost> {
        let first = self.consumer.next().await;
        self.keep(first)?;
        // Whatever else has arrived is taken along without waiting.
        while self.waiting.bytes() <= self.shared.config.worker.buffer_bytes
            && let Some(more) = self.consumer.next().now_or_never()
        {
            self.keep(more)?;
        }
        Ok(())
    }

    /// Waits until there is a batch. Cancel-safe.
    ///
    /// An idle lane hands a message on at once. One whose last batch was of some size is under load, and waits
    /// a moment for this one to fill: each commit costs the same, however few rows it has.
    pub(super) async fn batch(&mut self) -> Result<Batch, SessionLost> {
        let (rows, bytes) = (self.shared.config.worker.batch_size, self.shared.config.worker.batch_bytes);
        if self.waiting.is_empty() {
            self.receive().await?;
        }
        let full = |waiting: &Batch| waiting.len() >= rows || waiting.bytes() >= bytes;
        if self.last_batch >= rows.div_ceil(16) && !full(&self.waiting) {
            let linger = Duration::from_millis(self.shared.config.worker.linger_ms);
            let filling = async {
                while !full(&self.waiting) {
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

    /// Whether more may be received while a batch is out.
    pub(super) fn has_room(&self) -> bool {
        self.out_bytes + self.waiting.bytes() < self.shared.config.worker.buffer_bytes
    }

    /// The batch that was out is settled: looks whether the prefetch suits the messages there are.
    pub(super) async fn settled(&mut self, rows: usize) -> Result<(), SessionLost> {
        let worker = &self.shared.config.worker;
        self.mean_bytes = mean(self.mean_bytes, self.out_bytes, rows);
        self.out_bytes = 0;
        // Room for messages twice the mean, so that it does not have to be changed again at once.
        let fits = fitting(worker.buffer_bytes / 2, self.mean_bytes, worker.prefetch);
        let overfull = self.waiting.bytes() >= worker.buffer_bytes;
        if overfull || fits >= self.prefetch.saturating_mul(2) || fits <= self.prefetch / 4 {
            self.consume_again(fits).await?;
        }
        Ok(())
    }

    /// Ends the consumer and returns everything unsettled to the queue, quickly: other workers are waiting.
    ///
    /// Cancel, then `basic.nack`: closing the channel instead would count towards the delivery limit on every
    /// broker (from RabbitMQ 4.3 on a nack does not).
    pub(super) async fn give_back(mut self) -> Result<(), SessionLost> {
        let returned = self.return_all().await;
        self.shared.metrics.in_flight.sub(count(self.waiting.len()));
        // Where returning failed the channel is gone, and the broker requeues by itself.
        std::mem::take(&mut self.waiting).give_back();
        returned
    }

    async fn return_all(&mut self) -> Result<(), SessionLost> {
        self.stop_consuming().await?;
        // Tag 0 with multiple: everything on this channel, also the batch that was out.
        let all = BasicNackOptions { multiple: true, requeue: true };
        self.channel.basic_nack(0, all).await?;
        // The broker handles a channel's frames in order: when it closes, the nack has been done.
        Ok(self.channel.close(200, "done".into()).await?)
    }

    /// The channel is gone.
    pub(super) fn abandon(mut self) {
        self.shared.metrics.in_flight.sub(count(self.waiting.len()));
        std::mem::take(&mut self.waiting).abandon();
    }

    async fn consume_again(&mut self, prefetch: u16) -> Result<(), SessionLost> {
        tracing::debug!(
            from = self.prefetch,
            to = prefetch,
            mean_bytes = self.mean_bytes,
            "prefetch changed"
        );
        self.stop_consuming().await?;
        self.consumer = consume(&self.channel, &self.shared.config.amqp.queue, &self.tag, prefetch).await?;
        self.prefetch = prefetch;
        Ok(())
    }

    /// Cancels the consumer and keeps what was on its way.
    async fn stop_consuming(&mut self) -> Result<(), SessionLost> {
        self.channel.basic_cancel(self.tag.clone(), BasicCancelOptions::default()).await?;
        // The stream ends after the last message that the broker had sent.
        while let Some(delivery) = self.consumer.next().await {
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

async fn consume(
    channel: &Channel,
    queue: &str,
    tag: &ShortString,
    prefetch: u16,
) -> Result<Consumer, SessionLost> {
    channel.basic_qos(prefetch, BasicQosOptions::default()).await?;
    let options = BasicConsumeOptions::default();
    Ok(channel.basic_consume(queue.into(), tag.clone(), options, FieldTable::default()).await?)
}

/// How many messages of a size fit into a room: at least 1, at most `limit`.
fn fitting(room: usize, each: usize, limit: u16) -> u16 {
    u16::try_from(room / each.max(1)).unwrap_or(u16::MAX).clamp(1, limit)
}

/// Moves the mean a quarter of the way towards that of the last batch, and all the way up at once.
fn mean(before: usize, bytes: usize, rows: usize) -> usize {
    match bytes.checked_div(rows) {
        None => before,
        Some(now) if now >= before => now,
        Some(now) => before - (before - now).div_ceil(4),
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
        assert_eq!(mean(100, 10_000, 10), 1000);
        assert_eq!(mean(1000, 1000, 10), 775);
        assert_eq!(mean(1000, 0, 0), 1000);
    }
}
