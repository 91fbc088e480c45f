//! A lane's consumer: what comes in, what is waiting, and how much of it there may be.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::Shared;
use super::batch::Batch;
use super::session::{SessionLost, unless_ended};
use crate::amqp::{AmqpError, Consumer};
use crate::broker::BrokerEndpoint;

/// A lane is under load when its last batch had at least this fraction of `worker.batch_size`.
const LOADED: usize = 16;

/// Messages on their way in.
pub(super) struct Intake {
    shared: Shared,
    session: CancellationToken,
    lane: usize,
    consumer: Consumer,
    prefetch: u16,
    /// The prefetch that is wanted instead: nothing comes any more, and when everything is settled a new channel
    /// takes the old one's place. (Consuming again on the same channel kills it on RabbitMQ 3.10 with a quorum
    /// queue.)
    successor: Option<u16>,
    /// Received, and not yet handed out as a batch.
    waiting: Batch,
    /// Handed out, and not yet settled: bytes.
    out_bytes: usize,
    /// What a message weighs: the mean of the recent ones, once there were any.
    mean_bytes: Option<usize>,
    /// Rows of the batch before.
    last_batch: usize,
    /// Why the connection failed while a batch was out.
    failed: Option<AmqpError>,
}

impl Intake {
    /// Connects and consumes.
    ///
    /// The first prefetch is small enough that `worker.buffer_bytes` holds even if every message is as large as
    /// a message may be; it grows once it is known how large they are.
    pub(super) async fn open(
        broker: &BrokerEndpoint,
        shared: &Shared,
        session: &CancellationToken,
        lane: usize,
    ) -> Result<Self, SessionLost> {
        let worker = &shared.config.worker;
        let prefetch = fitting(worker.buffer_bytes, worker.max_message_bytes, worker.prefetch);
        let (name, tag) = (format!("lane {lane}"), format!("{}.{lane}", shared.name));
        let opening = Consumer::open(broker, &name, &shared.config.amqp.queue, &tag, prefetch);
        Ok(Intake {
            consumer: unless_ended(session, opening).await?,
            shared: shared.clone(),
            session: session.clone(),
            lane,
            prefetch,
            successor: None,
            waiting: Batch::default(),
            out_bytes: 0,
            mean_bytes: None,
            last_batch: 0,
            failed: None,
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
        if loaded && self.successor.is_none() && !self.full() {
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

    /// Receives while a batch is being stored, so that the next one is there when it is. What this lane has not settled is
    /// bounded in bytes: beyond that nothing is read, and the broker waits.
    ///
    /// A connection that fails meanwhile ends the session at once; what was begun is ended all the same.
    pub(super) async fn alongside<T>(&mut self, mut work: impl Future<Output = T> + Unpin) -> T {
        loop {
            let failed = tokio::select! {
                biased;
                done = &mut work => return done,
                failed = self.receive_on(), if self.failed.is_none() => failed,
            };
            self.shared.lost(&failed.to_string());
            self.session.cancel();
            self.failed = Some(failed);
        }
    }

    async fn receive_on(&mut self) -> AmqpError {
        loop {
            let unsettled = self.waiting.bytes() + self.out_bytes;
            let received = if unsettled < self.shared.config.worker.buffer_bytes {
                self.consumer.receive().await
            } else {
                self.consumer.live().await.map(|never| match never {})
            };
            match received {
                Ok(()) => self.keep(),
                Err(failed) => return failed,
            }
        }
    }

    /// Waits for the next messages.
    async fn receive(&mut self) -> Result<(), SessionLost> {
        unless_ended(&self.session, self.consumer.receive()).await?;
        self.keep();
        Ok(())
    }

    /// Whether what waits is a batch.
    fn full(&self) -> bool {
        let worker = &self.shared.config.worker;
        self.waiting.len() >= worker.batch_size || self.waiting.bytes() >= worker.batch_bytes
    }

    /// All of a batch is stored or dead-lettered: tells the broker, and looks whether the prefetch suits the messages there
    /// are.
    pub(super) async fn ack(&mut self, batch: Batch) -> Result<(), SessionLost> {
        let rows = batch.len();
        self.shared.metrics.in_flight.sub(count(rows));
        let acked = match self.failed.take() {
            None => batch.ack(&mut self.consumer).await,
            Some(failed) => {
                batch.abandon();
                Err(failed.into())
            }
        };
        acked.inspect_err(|_| self.shared.metrics.acks_lost.inc_by(rows as u64))?;
        self.suit_prefetch(rows).await
    }

    async fn suit_prefetch(&mut self, rows: usize) -> Result<(), SessionLost> {
        let worker = &self.shared.config.worker;
        let mean_bytes = mean(self.mean_bytes, self.out_bytes, rows);
        self.mean_bytes = Some(mean_bytes);
        self.out_bytes = 0;
        // Room for messages twice the mean, so that it does not have to be changed again at once.
        let fits = fitting(worker.buffer_bytes / 2, mean_bytes, worker.prefetch);
        let unsuitable = u32::from(fits) >= 2 * u32::from(self.prefetch) || fits <= self.prefetch / 4;
        if unsuitable && self.successor.is_none() {
            tracing::debug!(
                lane = self.lane,
                from = self.prefetch,
                to = fits,
                mean_bytes,
                "prefetch changes"
            );
            let held = self.waiting.bytes();
            self.stop_consuming(self.shared.config.worker.buffer_bytes.saturating_sub(held)).await?;
            self.successor = Some(fits);
        }
        match self.successor {
            Some(prefetch) if self.waiting.is_empty() => {
                self.consumer.restart(prefetch).await?;
                (self.prefetch, self.successor) = (prefetch, None);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Ends the consumer and returns everything unsettled to the queue, quickly: other workers are waiting. Of the batch
    /// that was out what is `done` is acknowledged: a return may count towards the delivery limit.
    pub(super) async fn give_back(mut self, out: Option<(Batch, &[bool])>) -> Result<(), SessionLost> {
        let returned = self.return_all(out.as_ref()).await;
        let out = out.map_or(0, |(batch, _)| {
            let rows = batch.len();
            batch.give_back();
            rows
        });
        self.shared.metrics.in_flight.sub(count(self.waiting.len() + out));
        // Where returning failed the channel is gone, and the broker requeues by itself.
        self.waiting.give_back();
        returned
    }

    async fn return_all(&mut self, out: Option<&(Batch, &[bool])>) -> Result<(), SessionLost> {
        if let Some(failed) = self.failed.take() {
            return Err(failed.into());
        }
        if let Some((batch, done)) = out {
            batch.ack_some(done, &mut self.consumer).await?;
        }
        self.stop_consuming(0).await?;
        Ok(self.consumer.return_all().await?)
    }

    /// The session is over.
    pub(super) fn abandon(self) {
        self.shared.metrics.in_flight.sub(count(self.waiting.len()));
        self.waiting.abandon();
    }

    /// Cancels the consumer and keeps what was on its way, up to so many bytes.
    async fn stop_consuming(&mut self, room: usize) -> Result<(), SessionLost> {
        if self.successor.is_none() {
            self.consumer.cancel(room).await?;
            self.keep();
        }
        Ok(())
    }

    fn keep(&mut self) {
        let metrics = &self.shared.metrics;
        for delivery in self.consumer.received() {
            metrics.received.inc();
            metrics.in_flight.inc();
            if delivery.redelivered {
                metrics.redelivered.inc();
            }
            self.waiting.push(delivery);
        }
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
