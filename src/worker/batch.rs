//! The right to settle a run of deliveries, as a value that has to be used up.

use super::session::SessionLost;
use crate::amqp::{Consumer, Delivery};

/// Deliveries of one channel, in the order they came, that nobody has settled yet.
///
/// A batch ends in exactly one of [`Batch::ack`], [`Batch::give_back`] and [`Batch::abandon`]. Dropping one
/// with deliveries in it is a bug that a debug build notices.
#[derive(Debug, Default)]
pub(super) struct Batch {
    deliveries: Vec<Delivery>,
    bytes: usize,
}

impl Batch {
    pub(super) fn push(&mut self, delivery: Delivery) {
        self.bytes += delivery.weight();
        self.deliveries.push(delivery);
    }

    pub(super) fn deliveries(&self) -> &[Delivery] {
        &self.deliveries
    }

    pub(super) fn len(&self) -> usize {
        self.deliveries.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.deliveries.is_empty()
    }

    /// Bytes of the messages: bodies, properties and keys.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes from the front as many as the limits allow, and at least one.
    pub(super) fn take(&mut self, max_rows: usize, max_bytes: usize) -> Batch {
        let mut bytes = 0;
        let fitting = self.deliveries.iter().take(max_rows).take_while(|delivery| {
            bytes += delivery.weight();
            bytes <= max_bytes
        });
        let count = fitting.count().max(1).min(self.deliveries.len());
        let rest = self.deliveries.split_off(count);
        let taken = std::mem::replace(&mut self.deliveries, rest);
        let bytes = taken.iter().map(|delivery| delivery.weight()).sum();
        self.bytes -= bytes;
        Batch { deliveries: taken, bytes }
    }

    /// Tells the broker that all of them are done, in one frame: nothing of the channel's before the last one
    /// is unsettled.
    ///
    /// Where the channel is gone, what was stored comes again, and is a duplicate then.
    pub(super) async fn ack(self, consumer: &mut Consumer) -> Result<(), SessionLost> {
        match self.used_up().last() {
            Some(last) => Ok(consumer.ack(last.tag, true).await?),
            None => Ok(()),
        }
    }

    /// Tells the broker which of them are done, one by one: the others are about to be returned.
    pub(super) async fn ack_some(&self, done: &[bool], consumer: &mut Consumer) -> Result<(), SessionLost> {
        for (delivery, _) in self.deliveries.iter().zip(done).filter(|(_, done)| **done) {
            consumer.ack(delivery.tag, false).await?;
        }
        Ok(())
    }

    /// The lane returns everything of its channel at once (`basic.nack`, multiple, requeue): this was part of it.
    pub(super) fn give_back(self) {
        self.used_up();
    }

    /// The channel is gone, and the broker requeues what was on it by itself.
    pub(super) fn abandon(self) {
        self.used_up();
    }

    fn used_up(mut self) -> Vec<Delivery> {
        std::mem::take(&mut self.deliveries)
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

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn batch(sizes: &[usize]) -> Batch {
        let mut batch = Batch::default();
        for (tag, size) in (1..).zip(sizes) {
            batch.push(Delivery {
                tag,
                redelivered: false,
                routing_key: Bytes::new(),
                properties: Bytes::new(),
                body: vec![0; *size].into(),
            });
        }
        batch
    }

    fn sizes(batch: Batch) -> Vec<usize> {
        batch.used_up().iter().map(|delivery| delivery.body.len()).collect()
    }

    #[test]
    fn rows_and_bytes_are_bounded_apart() {
        let mut pending = batch(&[10, 10, 10, 10]);
        assert_eq!(sizes(pending.take(3, 1000)), [10, 10, 10]);
        assert_eq!((pending.len(), pending.bytes()), (1, 10));
        pending.abandon();

        let mut pending = batch(&[10, 10, 10]);
        assert_eq!(sizes(pending.take(100, 25)), [10, 10]);
        pending.abandon();
    }

    #[test]
    fn a_message_larger_than_a_batch_goes_alone() {
        let mut pending = batch(&[50, 10]);
        assert_eq!(sizes(pending.take(100, 25)), [50]);
        assert_eq!(pending.bytes(), 10);
        pending.abandon();
        assert_eq!(Batch::default().take(10, 10).len(), 0);
    }

    #[test]
    #[cfg(debug_assertions)]
    #[should_panic(expected = "1 deliveries dropped")]
    fn a_dropped_batch_is_noticed() {
        drop(batch(&[1]));
    }
}
