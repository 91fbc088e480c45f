//! The right to settle a run of deliveries, as a value that is consumed exactly once.

use prometheus::IntGauge;

use super::fate::Fate;
use super::session::SessionLost;
use crate::amqp::{Consumer, Delivery, Settlement};
use crate::dead_letters::DeliveryKey;

/// Deliveries of one channel in the order of their tags, each with its fate.
///
/// A batch ends in exactly one of [`Batch::settle`], [`Batch::requeue`], [`Batch::reject_to_queue`] and [`Batch::forget`]. Dropping one that holds
/// deliveries is a bug that a debug build reports.
#[derive(Debug)]
pub(super) struct Batch {
    deliveries: Vec<Delivery>,
    fates: Vec<Fate>,
    bytes: usize,
    in_flight: InFlight,
}

impl Batch {
    /// Creates an empty batch that counts its deliveries in `in_flight`.
    pub(super) fn new(in_flight: IntGauge) -> Self {
        Batch { deliveries: Vec::new(), fates: Vec::new(), bytes: 0, in_flight: InFlight::new(in_flight) }
    }

    /// Appends a delivery that is not settled yet.
    pub(super) fn push(&mut self, delivery: Delivery) {
        self.bytes += delivery.weight();
        self.deliveries.push(delivery);
        self.fates.push(Fate::Pending);
        self.in_flight.add(1);
    }

    /// Returns the deliveries beside their fates, in the same order.
    pub(super) fn parts(&mut self) -> (&mut [Delivery], &mut [Fate]) {
        (&mut self.deliveries, &mut self.fates)
    }

    /// Returns the number of deliveries whose event is in the table.
    pub(super) fn stored(&self) -> usize {
        self.fates.iter().filter(|fate| matches!(fate, Fate::Stored | Fate::Duplicate)).count()
    }

    pub(super) fn len(&self) -> usize {
        self.deliveries.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.deliveries.is_empty()
    }

    /// Returns the size of the messages in bytes: bodies, properties and keys.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Splits off as many deliveries from the front as the limits allow, and at least one.
    pub(super) fn take(&mut self, max_rows: usize, max_bytes: usize) -> Batch {
        let mut bytes = 0;
        let fitting = self.deliveries.iter().take(max_rows).take_while(|delivery| {
            bytes += delivery.weight();
            bytes <= max_bytes
        });
        let count = fitting.count().max(1).min(self.deliveries.len());
        let rest = self.deliveries.split_off(count);
        let deliveries = std::mem::replace(&mut self.deliveries, rest);
        let fates = self.fates.split_off(self.fates.len() - count);
        let bytes = deliveries.iter().map(Delivery::weight).sum();
        self.bytes -= bytes;
        Batch { deliveries, fates, bytes, in_flight: self.in_flight.split(count) }
    }

    /// Takes out the deliveries that have no end yet, each as a batch of its own.
    pub(super) fn take_open(&mut self) -> Vec<Batch> {
        if self.fates.iter().all(Fate::is_settled) {
            return Vec::new();
        }
        let deliveries = std::mem::take(&mut self.deliveries);
        let fates = std::mem::take(&mut self.fates);
        let mut open = Vec::new();
        for (delivery, fate) in deliveries.into_iter().zip(fates) {
            let bytes = delivery.weight();
            if fate.is_settled() {
                self.deliveries.push(delivery);
                self.fates.push(fate);
            } else {
                self.bytes -= bytes;
                let in_flight = self.in_flight.split(1);
                open.push(Batch { deliveries: vec![delivery], fates: vec![fate], bytes, in_flight });
            }
        }
        open
    }

    /// Returns whether the first delivery comes from a stream.
    pub(super) fn is_of_a_stream(&self) -> bool {
        self.deliveries.first().is_some_and(Delivery::is_of_a_stream)
    }

    /// Returns the channel and the tag of the first delivery.
    pub(super) fn key(&self) -> Option<DeliveryKey> {
        self.deliveries.first().map(|delivery| (delivery.channel, delivery.tag))
    }

    /// Acknowledges the deliveries, which all have their end. Refused ones are rejected, which leaves them to the broker's own
    /// dead-lettering. All others are acknowledged in one frame, unless `individually`: then something before them on the channel is
    /// not settled.
    ///
    /// The broker delivers what was stored again where the channel is gone, and it is a duplicate then.
    pub(super) async fn settle(
        mut self,
        consumer: &mut Consumer,
        individually: bool,
    ) -> Result<(), SessionLost> {
        debug_assert!(self.fates.iter().all(Fate::is_settled), "an ack of what is not settled");
        let channel = self.key().map_or_else(|| consumer.channel(), |(channel, _)| channel);
        let reject = |tag| Settlement::Reject { tag, requeue: false };
        let mut settlements: Vec<_> = self.tags(Fate::is_refused).map(reject).collect();
        let acked = self.tags(|fate| !fate.is_refused());
        if individually {
            settlements.extend(acked.map(|tag| Settlement::Ack { tag, multiple: false }));
        } else {
            // The broker does not know the tag of a rejected delivery any more.
            settlements.extend(acked.last().map(|tag| Settlement::Ack { tag, multiple: true }));
        }
        self.clear();
        Ok(consumer.settle(channel, &settlements).await?)
    }

    /// Acknowledges what is settled, delivery by delivery, and leaves the rest to a return of the whole channel
    /// (`basic.nack`, multiple, requeue) that has to follow.
    pub(super) async fn requeue(mut self, consumer: &mut Consumer) -> Result<(), SessionLost> {
        let open = self.take_open();
        open.into_iter().for_each(Batch::forget);
        self.settle(consumer, true).await
    }

    /// Requeues the deliveries one by one.
    pub(super) async fn reject_to_queue(mut self, consumer: &mut Consumer) -> Result<(), SessionLost> {
        let channel = self.key().map_or_else(|| consumer.channel(), |(channel, _)| channel);
        let requeue = |tag| Settlement::Reject { tag, requeue: true };
        let settlements: Vec<_> = self.tags(|_| true).map(requeue).collect();
        self.clear();
        Ok(consumer.settle(channel, &settlements).await?)
    }

    /// Forgets the deliveries: their channel is gone, and the broker requeues them.
    pub(super) fn forget(mut self) {
        self.clear();
    }

    fn tags(&self, which: impl Fn(&Fate) -> bool) -> impl Iterator<Item = u64> {
        let with_fates = self.deliveries.iter().zip(&self.fates);
        with_fates.filter(move |(_, fate)| which(fate)).map(|(delivery, _)| delivery.tag)
    }

    fn clear(&mut self) {
        self.deliveries.clear();
        self.fates.clear();
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        debug_assert!(
            self.deliveries.is_empty() || std::thread::panicking(),
            "{} deliveries dropped without being settled",
            self.deliveries.len()
        );
    }
}

/// Share of the gauge of messages in flight, given back when it is dropped.
#[derive(Debug)]
struct InFlight {
    gauge: IntGauge,
    messages: i64,
}

impl InFlight {
    fn new(gauge: IntGauge) -> Self {
        InFlight { gauge, messages: 0 }
    }

    fn add(&mut self, messages: i64) {
        self.gauge.add(messages);
        self.messages += messages;
    }

    fn split(&mut self, messages: usize) -> InFlight {
        let messages = i64::try_from(messages).unwrap_or(i64::MAX).min(self.messages);
        self.messages -= messages;
        InFlight { gauge: self.gauge.clone(), messages }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.gauge.sub(self.messages);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn gauge() -> IntGauge {
        IntGauge::new("in_flight", "Messages").unwrap()
    }

    fn batch(sizes: &[usize], gauge: &IntGauge) -> Batch {
        let mut batch = Batch::new(gauge.clone());
        for (tag, size) in (1..).zip(sizes) {
            batch.push(Delivery {
                channel: 1,
                tag,
                redelivered: false,
                routing_key: Bytes::new(),
                properties: Bytes::new(),
                body: vec![0; *size].into(),
                skipped_bytes: None,
            });
        }
        batch
    }

    fn sizes(batch: Batch) -> Vec<usize> {
        let sizes = batch.deliveries.iter().map(|delivery| delivery.body.len()).collect();
        batch.forget();
        sizes
    }

    #[test]
    fn rows_and_bytes_are_bounded_apart() {
        let mut pending = batch(&[10, 10, 10, 10], &gauge());
        assert_eq!(sizes(pending.take(3, 1000)), [10, 10, 10]);
        assert_eq!((pending.len(), pending.bytes()), (1, 10));
        pending.forget();

        let mut pending = batch(&[10, 10, 10], &gauge());
        assert_eq!(sizes(pending.take(100, 25)), [10, 10]);
        pending.forget();
    }

    #[test]
    fn a_message_larger_than_a_batch_goes_alone() {
        let mut pending = batch(&[50, 10], &gauge());
        assert_eq!(sizes(pending.take(100, 25)), [50]);
        assert_eq!(pending.bytes(), 10);
        pending.forget();
        assert_eq!(Batch::new(gauge()).take(10, 10).len(), 0);
    }

    #[test]
    fn the_gauge_follows_the_batches() {
        let gauge = gauge();
        let mut pending = batch(&[1, 1, 1], &gauge);
        let taken = pending.take(2, 100);
        assert_eq!(gauge.get(), 3);
        taken.forget();
        assert_eq!(gauge.get(), 1);
        pending.forget();
        assert_eq!(gauge.get(), 0);
    }

    #[test]
    fn fates_stay_beside_their_deliveries() {
        let mut pending = batch(&[1, 1, 1], &gauge());
        pending.parts().1[1] = Fate::Stored;
        assert_eq!(pending.tags(Fate::is_settled).collect::<Vec<_>>(), [2]);
        assert_eq!(pending.tags(|fate| !fate.is_settled()).collect::<Vec<_>>(), [1, 3]);
        pending.forget();
    }

    #[test]
    fn open_deliveries_leave_their_batch() {
        let gauge = gauge();
        let mut pending = batch(&[1, 20, 300], &gauge);
        for settled in [0, 2] {
            pending.parts().1[settled] = Fate::Stored;
        }
        let mut open = pending.take_open();
        assert_eq!((open.len(), open[0].key(), open[0].bytes()), (1, Some((1, 2)), 20));
        assert_eq!((pending.len(), pending.bytes()), (2, 301));
        pending.forget();
        assert_eq!(gauge.get(), 1);
        open.remove(0).forget();
        assert_eq!(gauge.get(), 0);
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "1 deliveries dropped")]
    fn a_dropped_batch_is_reported() {
        drop(batch(&[1], &gauge()));
    }
}
