//! Metrics of retention (`cns-events prune`).

use std::time::Duration;

use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

use super::dependency::Dependency;
use super::table::metrics;

metrics! {
    /// Metrics of a run of retention.
    struct PruneMetrics {}

    /// Events deleted by retention.
    pruned: IntCounter = "cns_events_pruned_total";
    /// Seconds to delete a batch, including the commit.
    batch_seconds: Histogram = "cns_events_prune_batch_seconds", vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1., 2.5, 5., 10., 30.];
    /// Retried attempts to delete a batch, by reason.
    retries: IntCounterVec = "cns_events_prune_retries_total", &["reason"];
    /// Unix time up to which older events have been deleted.
    reached: IntGauge = "cns_events_prune_reached_timestamp_seconds";
    /// Unix time of the retention cutoff; older events are deleted.
    cutoff: IntGauge = "cns_events_prune_cutoff_timestamp_seconds";
    /// 1 if the dependency answered the last time it was needed, 0 if not, by dependency.
    up: IntGaugeVec = "cns_events_up", &["peer"];
}

impl PruneMetrics {
    /// Returns the metrics with a registry of their own.
    #[must_use]
    pub fn new() -> Self {
        let metrics = Self::registered();
        metrics.up.with_label_values(&[Dependency::Database.name()]);
        metrics
    }

    /// Records a deleted batch: its rows, the Unix time up to which no old event is left, and its duration.
    pub fn deleted(&self, rows: u64, up_to: i64, took: Duration) {
        self.pruned.inc_by(rows);
        self.reached.set(up_to);
        self.batch_seconds.observe(took.as_secs_f64());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_exists_from_the_start() {
        let text = crate::metrics::render(&PruneMetrics::new().registry);
        let late = ["cns_events_prune_retries_total"]; // a reason exists from its first retry on
        for name in PruneMetrics::names().into_iter().filter(|name| !late.contains(name)) {
            assert!(text.contains(&format!("# TYPE {name} ")), "{name}");
        }
    }
}
