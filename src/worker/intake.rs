//! A lane's consumer: receives deliveries, keeps them until there is a batch, and bounds them in bytes.

use std::time::{Duration, Instant};

use super::Shared;
use super::batch::Batch;
use super::fate::Fate;
use super::parked::Parked;
use super::prefetch::Prefetch;
use super::session::{Session, SessionLost};
use crate::amqp::{AmqpError, Consumer};
use crate::broker::BrokerEndpoint;
use crate::dead_letters::DeliveryKey;

/// Divisor of `worker.batch_size`: a lane is under load when its last batch had at least that fraction of it.
const LOAD_DIVISOR: usize = 16;

/// Time between the last ack on a channel and its close: RabbitMQ 3.10 loses an ack of a quorum queue that its channel's close follows
/// at once, and delivers the message again.
const CHANNEL_LINGER: Duration = Duration::from_millis(250);

/// State of the consumer.
#[derive(Debug)]
enum Phase {
    /// Deliveries arrive.
    Consuming,
    /// The consumer is cancelled. Once everything is settled, a new channel with the next prefetch takes its place:
    /// consuming again on the same channel ends it on RabbitMQ 3.10 with a quorum queue.
    Draining { next_prefetch: u16 },
    /// The connection failed while a batch was being stored.
    Failed(AmqpError),
}

/// Deliveries on their way in.
pub(super) struct Intake {
    shared: Shared,
    session: Session,
    lane: usize,
    consumer: Consumer,
    phase: Phase,
    prefetch: Prefetch,
    /// Received, and not handed out as a batch.
    waiting: Batch,
    /// Deliveries that have left their batch and are not settled.
    parked: Parked,
    /// Size of the batch that is handed out and not settled, in bytes.
    out_bytes: usize,
    /// Rows of the batch before.
    last_batch_rows: usize,
    /// Set after the first delivery has shown that the queue is not a stream.
    queue_is_checked: bool,
}

impl Intake {
    /// Connects and consumes.
    pub(super) async fn open(
        broker: &BrokerEndpoint,
        shared: &Shared,
        session: &Session,
        lane: usize,
    ) -> Result<Self, SessionLost> {
        let worker = &shared.config.worker;
        let prefetch = Prefetch::new(worker.buffer_bytes, worker.max_message_bytes, worker.prefetch);
        let (name, tag) = (format!("lane {lane}"), format!("{}.{lane}", shared.name));
        let (queue, prefetched, max_bytes) =
            (&shared.config.amqp.queue, prefetch.current(), worker.max_message_bytes);
        let opening = Consumer::open(broker, &name, queue, &tag, prefetched, max_bytes);
        Ok(Intake {
            consumer: session.unless_ended(opening).await?,
            session: session.clone(),
            lane,
            phase: Phase::Consuming,
            prefetch,
            waiting: Batch::new(shared.metrics.in_flight.clone()),
            parked: Parked::default(),
            out_bytes: 0,
            last_batch_rows: 0,
            queue_is_checked: false,
            shared: shared.clone(),
        })
    }

    /// Waits until there is a batch. Without room it only receives. Cancel-safe: what was received is kept.
    ///
    /// An idle lane hands a message on at once. A lane whose last batch was large is under load, and waits
    /// `worker.linger_ms` for this one to fill: each commit costs the same, however few rows it has.
    pub(super) async fn next_batch(&mut self, has_room: bool) -> Result<Batch, SessionLost> {
        if !has_room
            || self.parked.is_full()
            || self.parked.bytes() > self.shared.config.worker.buffer_bytes / 2
        {
            return Err(self.receive_within_budget().await.into());
        }
        let worker = &self.shared.config.worker;
        let (rows, bytes) = (worker.batch_size, worker.batch_bytes);
        let linger = Duration::from_millis(worker.linger_ms);
        if self.waiting.is_empty() {
            self.receive().await?;
        }
        let loaded = self.last_batch_rows >= rows.div_ceil(LOAD_DIVISOR);
        if loaded && matches!(self.phase, Phase::Consuming) && !self.has_full_batch() {
            let filling = async {
                while !self.has_full_batch() {
                    self.receive().await?;
                }
                Ok::<(), SessionLost>(())
            };
            if let Ok(filled) = tokio::time::timeout(linger, filling).await {
                filled?;
            }
        }
        let batch = self.waiting.take(rows, bytes);
        self.last_batch_rows = batch.len();
        self.out_bytes = batch.bytes();
        Ok(batch)
    }

    /// Receives while `work` is done, so that the next batch is there when it is. What this lane has not settled is
    /// bounded by `worker.buffer_bytes`: beyond that the lane reads nothing, and the broker waits.
    ///
    /// A connection that fails meanwhile ends the session at once; `work` is completed all the same.
    pub(super) async fn while_receiving<T>(&mut self, work: impl Future<Output = T>) -> T {
        let mut work = std::pin::pin!(work);
        loop {
            let error = tokio::select! {
                biased;
                done = &mut work => return done,
                error = self.receive_within_budget(), if !matches!(self.phase, Phase::Failed(_)) => error,
            };
            self.shared.broker_lost(&error.to_string());
            self.session.end();
            self.phase = Phase::Failed(error);
        }
    }

    async fn receive_within_budget(&mut self) -> AmqpError {
        loop {
            let unsettled = self.waiting.bytes() + self.out_bytes + self.parked.bytes();
            let received = if unsettled < self.shared.config.worker.buffer_bytes {
                self.consumer.receive().await
            } else {
                self.consumer.heartbeat_only().await.map(|never| match never {})
            };
            match received {
                Ok(()) => self.keep_received(),
                Err(error) => return error,
            }
        }
    }

    /// Waits for the next deliveries.
    async fn receive(&mut self) -> Result<(), SessionLost> {
        self.session.unless_ended(self.consumer.receive()).await?;
        self.keep_received();
        if !std::mem::replace(&mut self.queue_is_checked, true) && self.waiting.is_of_a_stream() {
            return Err(AmqpError::Stream.into());
        }
        Ok(())
    }

    fn has_full_batch(&self) -> bool {
        let worker = &self.shared.config.worker;
        self.waiting.len() >= worker.batch_size || self.waiting.bytes() >= worker.batch_bytes
    }

    /// Settles a batch, and parks the deliveries that have no end yet. Adapts the prefetch to the size of its messages.
    pub(super) async fn settle(&mut self, mut batch: Batch) -> Result<(), SessionLost> {
        let rows = batch.len();
        for open in batch.take_open() {
            self.parked.insert(open);
        }
        let stored = batch.stored();
        let settled = match std::mem::replace(&mut self.phase, Phase::Consuming) {
            Phase::Failed(error) => {
                batch.forget();
                Err(error.into())
            }
            phase => {
                self.phase = phase;
                let individually = self.parked.on_channel(self.consumer.channel()) > 0;
                batch.settle(&mut self.consumer, individually).await
            }
        };
        settled.inspect_err(|_| self.shared.metrics.acks_lost.inc_by(stored as u64))?;
        self.close_replaced().await?;
        self.adapt_prefetch(rows).await
    }

    /// Settles a parked delivery that has its end. Does nothing where it was requeued meanwhile.
    pub(super) async fn settle_parked(&mut self, key: DeliveryKey, fate: Fate) -> Result<(), SessionLost> {
        let Some(mut batch) = self.parked.remove(key) else { return Ok(()) };
        if let Some(place) = batch.parts().1.first_mut() {
            *place = fate;
        }
        batch.settle(&mut self.consumer, true).await?;
        self.close_if_settled(key.0).await
    }

    /// Waits until a parked delivery has to be requeued, before the broker's ack timeout ends the consumer, or until a channel that was
    /// replaced has to be closed.
    pub(super) fn overdue(&self) -> impl Future<Output = ()> + use<> {
        let parked = self.parked.first_overdue(self.park_limit());
        let at = self.closing().map(|(_, at)| at).chain(parked).min();
        async move {
            match at {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        }
    }

    /// Returns the replaced channels that have nothing parked, each with the time to close it.
    fn closing(&self) -> impl Iterator<Item = (u16, Instant)> {
        let replaced = self.consumer.replaced().iter();
        let is_settled = |(channel, _): &&(u16, Instant)| self.parked.on_channel(*channel) == 0;
        replaced.filter(is_settled).map(|(channel, replaced_at)| (*channel, *replaced_at + CHANNEL_LINGER))
    }

    /// Requeues the parked deliveries, and closes the replaced channels, that are overdue.
    pub(super) async fn end_overdue(&mut self) -> Result<(), SessionLost> {
        self.close_replaced().await?;
        for key in self.parked.overdue(self.park_limit()) {
            if let Some(batch) = self.parked.remove(key) {
                batch.reject_to_queue(&mut self.consumer).await?;
                self.close_if_settled(key.0).await?;
            }
        }
        Ok(())
    }

    /// Three quarters of the broker's ack timeout: a hold takes half of it at most.
    fn park_limit(&self) -> Duration {
        Duration::from_secs(self.shared.config.amqp.consumer_timeout_seconds) * 3 / 4
    }

    async fn close_if_settled(&mut self, channel: u16) -> Result<(), SessionLost> {
        if channel != self.consumer.channel() && self.parked.on_channel(channel) == 0 {
            self.consumer.close_replaced(channel).await?;
            self.keep_received();
        }
        Ok(())
    }

    /// Closes the channels that were replaced a while ago and have nothing parked.
    async fn close_replaced(&mut self) -> Result<(), SessionLost> {
        let now = Instant::now();
        let overdue: Vec<u16> =
            self.closing().filter(|(_, at)| *at <= now).map(|(channel, _)| channel).collect();
        for channel in overdue {
            self.close_if_settled(channel).await?;
        }
        Ok(())
    }

    async fn adapt_prefetch(&mut self, rows: usize) -> Result<(), SessionLost> {
        let parked = self.parked.on_channel(self.consumer.channel());
        // Parked deliveries use up the prefetch: a new channel has all of it.
        let crowded = parked * 2 >= usize::from(self.prefetch.current());
        let wanted = self.prefetch.adapt(std::mem::take(&mut self.out_bytes), rows);
        let grows = |wanted: &u16| *wanted > self.prefetch.current();
        let wanted = wanted.filter(|wanted| !grows(wanted) || !self.shared.is_disrupted());
        let wanted = wanted.or_else(|| crowded.then(|| self.prefetch.current()));
        if let (Some(next_prefetch), Phase::Consuming) = (wanted, &self.phase) {
            let (lane, from) = (self.lane, self.prefetch.current());
            tracing::debug!(lane, from, to = next_prefetch, parked, "consuming on a new channel");
            let held = self.waiting.bytes();
            self.consumer.cancel(self.shared.config.worker.buffer_bytes.saturating_sub(held)).await?;
            self.keep_received();
            self.phase = Phase::Draining { next_prefetch };
        }
        match self.phase {
            Phase::Draining { next_prefetch } if self.waiting.is_empty() => {
                self.consumer.restart(next_prefetch).await?;
                self.prefetch.set(next_prefetch);
                self.phase = Phase::Consuming;
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Ends the consumer and returns everything unsettled to the queue, quickly: other workers can take it. What is settled
    /// of the batch that was out is acknowledged: a return may count towards the delivery limit.
    pub(super) async fn requeue(mut self, out: Option<Batch>) -> Result<(), SessionLost> {
        let returned = self.return_all(out).await;
        // Where returning failed the channels are gone, and the broker requeues by itself.
        self.parked.forget();
        self.waiting.forget();
        returned
    }

    async fn return_all(&mut self, out: Option<Batch>) -> Result<(), SessionLost> {
        let consuming = matches!(self.phase, Phase::Consuming);
        if let Phase::Failed(error) = std::mem::replace(&mut self.phase, Phase::Consuming) {
            out.into_iter().for_each(Batch::forget);
            return Err(error.into());
        }
        if let Some(batch) = out {
            batch.requeue(&mut self.consumer).await?;
        }
        if consuming {
            self.consumer.cancel(0).await?;
            self.keep_received();
        }
        Ok(self.consumer.return_all().await?)
    }

    /// Forgets what was received: the session is over, and the broker requeues it.
    pub(super) fn forget(mut self) {
        self.parked.forget();
        self.waiting.forget();
    }

    fn keep_received(&mut self) {
        let metrics = &self.shared.metrics;
        for delivery in self.consumer.received() {
            metrics.received.inc();
            if delivery.redelivered {
                metrics.redelivered.inc();
            }
            self.waiting.push(delivery);
        }
    }
}
