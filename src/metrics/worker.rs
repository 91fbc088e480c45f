//! Metrics of a worker.

use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::dependency::Dependency;
use super::table::metrics;
use crate::event::{EventType, Reason};

/// Value of the `event_type` label for every type that the contract does not name.
const OTHER: &str = "other";

/// Fields that can be corrected.
const CORRECTED_FIELDS: [&str; 2] = ["source", "timestamp"];

metrics! {
    /// Metrics of a worker; section 8 of the contract has their names.
    struct Metrics { stored_by_kind: Vec<IntCounter> }

    /// Messages received from the broker.
    received: IntCounter = "cns_events_received_total";
    /// Events stored by this worker, by type.
    stored: IntCounterVec = "cns_events_stored_total", &["event_type"];
    /// Events whose event_id was stored already.
    duplicates: IntCounter = "cns_events_duplicates_total";
    /// Duplicates that differ from the stored event.
    conflicts: IntCounter = "cns_events_conflicts_total";
    /// Messages received that had been delivered before.
    redelivered: IntCounter = "cns_events_redelivered_total";
    /// Messages dead-lettered by this worker, by reason.
    dead_lettered: IntCounterVec = "cns_events_dead_lettered_total", &["reason"];
    /// Values corrected instead of refused, by field.
    corrected: IntCounterVec = "cns_events_corrected_total", &["field"];
    /// Top-level fields that the contract does not know and that were not stored.
    ignored_fields: IntCounter = "cns_events_ignored_fields_total";
    /// Payloads that break their type's schema, by type.
    schema_violations: IntCounterVec = "cns_events_schema_violations_total", &["event_type"];
    /// Failed attempts to store a batch that are tried again, by reason.
    store_retries: IntCounterVec = "cns_events_store_retries_total", &["reason"];
    /// Connections made again after one was lost, by peer.
    reconnects: IntCounterVec = "cns_events_reconnects_total", &["peer"];
    /// Messages stored whose ack was lost with its channel; they come again and are duplicates.
    acks_lost: IntCounter = "cns_events_acks_lost_total";
    /// Messages received and not settled yet.
    in_flight: IntGauge = "cns_events_in_flight";
    /// Lanes whose dead letters the broker does not take at the moment.
    dead_letters_blocked: IntGauge = "cns_events_dead_letters_blocked";
    /// 1 if the server was reached when it was last needed, 0 if not, by peer.
    up: IntGaugeVec = "cns_events_up", &["peer"];
    /// Rows of a committed batch.
    batch_rows: Histogram = "cns_events_batch_rows", vec![1., 2., 5., 10., 25., 50., 100., 250., 500., 750., 1000., 2000., 5000.];
    /// Seconds that storing a batch took, from the insert to the committed answer.
    commit_seconds: Histogram = "cns_events_commit_seconds", vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1., 2.5, 5., 10., 30.];
    /// Seconds from created_at to the commit.
    end_to_end_seconds: Histogram = "cns_events_end_to_end_seconds", vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1., 2.5, 5., 10., 30., 60., 300., 1800., 3600.];
}

impl Metrics {
    /// Returns the metrics with a registry of their own, so that two workers can run in one process.
    #[must_use]
    pub fn new() -> Self {
        let mut metrics = Self::registered();
        metrics.stored_by_kind =
            EventType::ALL.into_iter().map(|kind| metrics.stored.with_label_values(&[kind.name()])).collect();
        metrics.set_constants();
        metrics
    }

    /// Creates every counter at 0: alerts need the zero.
    fn set_constants(&self) {
        self.stored.with_label_values(&[OTHER]);
        self.schema_violations.with_label_values(&[OTHER]);
        for kind in EventType::ALL {
            self.schema_violations.with_label_values(&[kind.name()]);
        }
        for reason in Reason::ALL {
            self.dead_lettered.with_label_values(&[reason.name()]);
        }
        for field in CORRECTED_FIELDS {
            self.corrected.with_label_values(&[field]);
        }
        for peer in Dependency::ALL {
            self.reconnects.with_label_values(&[peer.name()]);
            self.up.with_label_values(&[peer.name()]);
        }
    }

    /// Counts one stored event.
    pub fn count_stored(&self, kind: Option<EventType>) {
        match kind {
            Some(kind) => self.stored_by_kind[kind as usize].inc(),
            None => self.stored.with_label_values(&[OTHER]).inc(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::render;

    #[test]
    fn every_metric_is_there_before_anything_happened() {
        let text = render(&Metrics::new().registry);
        let late = ["cns_events_store_retries_total"]; // its reasons are known when they happen
        for name in Metrics::names().into_iter().filter(|name| !late.contains(name)) {
            assert!(text.contains(&format!("# TYPE {name} ")), "{name}");
        }
        assert!(text.contains("cns_events_build_info{"));
    }

    #[test]
    fn unknown_types_count_as_other() {
        let metrics = Metrics::new();
        metrics.count_stored(Some(EventType::CacheMiss));
        metrics.count_stored(None);
        let text = render(&metrics.registry);
        assert!(text.contains(r#"cns_events_stored_total{event_type="cache_miss"} 1"#));
        assert!(text.contains(r#"cns_events_stored_total{event_type="other"} 1"#));
    }
}
