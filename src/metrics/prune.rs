//! What retention counts (`cns-events prune`).

use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::{Dependency, metrics};

metrics! {
    /// Every metric of a run of retention.
    struct PruneMetrics {}

    /// Events that retention deleted.
    pruned: IntCounter = "cns_events_pruned_total";
    /// Seconds that deleting a batch took, its commit included.
    batch_seconds: Histogram = "cns_events_prune_batch_seconds", vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1., 2.5, 5., 10., 30.];
    /// Failed attempts to delete a batch that are tried again, by reason.
    retries: IntCounterVec = "cns_events_prune_retries_total", &["reason"];
    /// Nothing older than this is left, in seconds since 1970.
    reached: IntGauge = "cns_events_prune_reached_timestamp_seconds";
    /// What is older than this goes, in seconds since 1970.
    cutoff: IntGauge = "cns_events_prune_cutoff_timestamp_seconds";
    /// Whether the peer was reached when it was last needed (1) or not (0).
    up: IntGaugeVec = "cns_events_up", &["peer"];
}

impl PruneMetrics {
    /// A registry of its own.
    #[must_use]
    pub fn new() -> Self {
        let metrics = Self::registered();
        metrics.up.with_label_values(&[Dependency::Database.name()]);
        metrics
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_there_before_anything_happened() {
        let text = crate::metrics::render(&PruneMetrics::new().registry);
        let late = ["cns_events_prune_retries_total"]; // its reasons are known when they happen
        for name in PruneMetrics::names().into_iter().filter(|name| !late.contains(name)) {
            assert!(text.contains(&format!("# TYPE {name} ")), "{name}");
        }
    }
}
