//! From the deliveries of a batch to the rows that can be stored; the rest is rejected or dropped here.

use chrono::Utc;

use super::fate::Fate;
use crate::amqp::Delivery;
use crate::event::{Decoded, Reason, Rules, decode};
use crate::metrics::Metrics;
use crate::store::Row;

/// Rows of a batch in the order of their `event_id`, each with the delivery that it came from.
///
/// Two writers that take their locks in the same order never wait for each other in a circle.
pub(super) struct Rows<'a> {
    rows: Vec<Row<'a>>,
    /// Index in the batch of each row's delivery.
    origins: Vec<usize>,
    deliveries: &'a [Delivery],
    fates: &'a mut [Fate],
}

impl<'a> Rows<'a> {
    /// Decodes the pending ones of these deliveries. A delivery that cannot be decoded is rejected, and a probe is dropped. `metrics` is
    /// absent where they were counted before.
    pub(super) fn decode(
        deliveries: &'a [Delivery],
        fates: &'a mut [Fate],
        rules: &Rules,
        metrics: Option<&Metrics>,
    ) -> Self {
        let received_at = Utc::now();
        let mut decoded = Vec::with_capacity(deliveries.len());
        for (index, delivery) in deliveries.iter().enumerate() {
            if !matches!(fates[index], Fate::Pending) {
                continue;
            }
            if let Some(bytes) = delivery.skipped_bytes {
                too_large(delivery, bytes, metrics);
                fates[index] = Fate::Refused;
                continue;
            }
            match delivery.received_message(received_at).and_then(|message| decode(&message, rules)) {
                Ok(event) => {
                    if let Some(metrics) = metrics {
                        count(&event, delivery, metrics);
                    }
                    decoded.push((Row::new(event.event), index));
                }
                Err(_) if delivery.is_probe() => fates[index] = Fate::Probe,
                Err(rejection) => fates[index] = Fate::Rejected(rejection),
            }
        }
        decoded.sort_by(|(a, _), (b, _)| a.event.event_id.cmp(&b.event.event_id));
        let (rows, origins) = decoded.into_iter().unzip();
        Rows { rows, origins, deliveries, fates }
    }

    /// Returns the rows in the order of their `event_id`.
    pub(super) fn rows(&self) -> &[Row<'a>] {
        &self.rows
    }

    /// Returns the delivery that a row came from.
    pub(super) fn delivery(&self, row: usize) -> &Delivery {
        &self.deliveries[self.origins[row]]
    }

    /// Returns whether a row was stored by this delivery.
    pub(super) fn is_stored(&self, row: usize) -> bool {
        matches!(self.fates[self.origins[row]], Fate::Stored)
    }

    /// Sets the fate of a row's delivery.
    pub(super) fn settle(&mut self, row: usize, fate: Fate) {
        self.fates[self.origins[row]] = fate;
    }
}

/// Counts what decoding corrected, ignored and objected to.
fn count(decoded: &Decoded<'_>, delivery: &Delivery, metrics: &Metrics) {
    let Decoded { event, source_corrected, timestamp_corrected, ignored_fields, schema_violation } = decoded;
    if *source_corrected {
        metrics.corrected.with_label_values(&["source"]).inc();
    }
    if *timestamp_corrected {
        metrics.corrected.with_label_values(&["timestamp"]).inc();
    }
    if *ignored_fields > 0 {
        metrics.ignored_fields.inc_by(*ignored_fields);
    }
    if let Some(violation) = schema_violation {
        let event_type = event.known_type().map_or("other", |event_type| event_type.name());
        metrics.schema_violations.with_label_values(&[event_type]).inc();
        let (event_id, traceparent) = (event.event_id.escape_debug(), delivery.traceparent());
        tracing::debug!(%event_id, %violation, traceparent, "payload does not match its schema");
    }
}

/// Counts and logs a message that was skipped as it arrived.
fn too_large(delivery: &Delivery, bytes: usize, metrics: Option<&Metrics>) {
    let reason = Reason::TooLarge.name();
    if let Some(metrics) = metrics {
        metrics.dead_lettered.with_label_values(&[reason]).inc();
    }
    let message_id = delivery.message_id().map(|id| id.escape_debug().to_string());
    tracing::warn!(
        reason,
        bytes,
        message_id,
        "rejected to the broker's own dead-lettering: too large to be received\nhint: raise worker.max_message_bytes"
    );
}
