//! Metrics of the task that keeps the summaries (`cns-events aggregate`).

use prometheus::{Gauge, Histogram, IntCounter, IntCounterVec, IntGaugeVec, Opts, Registry};

use super::dependency::Dependency;
use super::table::metrics;

/// Reasons why the summaries begin anew.
const FILL_REASONS: [&str; 3] = ["first", "restored", "pruned"];

metrics! {
    /// Metrics of the task that keeps the summaries.
    struct AggregateMetrics {}

    /// Seconds by which the summaries are behind what is stored; of the process that is at work.
    lag: Gauge = "cns_events_aggregate_lag_seconds";
    /// Events taken into the summaries.
    events: IntCounter = "cns_events_aggregate_events_total";
    /// Times at which the summaries began anew from the events, by reason.
    fills: IntCounterVec = "cns_events_aggregate_fills_total", &["reason"];
    /// Seconds of a round, which takes in a part of what is new.
    round_seconds: Histogram = "cns_events_aggregate_round_seconds", vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1., 2.5, 5., 10., 30.];
    /// Unix time of the oldest event that is stored; 0 where there is none.
    oldest_event: Gauge = "cns_events_oldest_event_timestamp_seconds";
}

impl AggregateMetrics {
    /// Returns the metrics with a registry of their own.
    #[must_use]
    pub fn new() -> Self {
        Self::registered().at_zero()
    }

    /// Returns the metrics of a task within another process, in that process's registry, which has none of them yet.
    #[must_use]
    pub fn within(registry: Registry) -> Self {
        Self::registered_in(registry).at_zero()
    }

    fn at_zero(self) -> Self {
        for reason in FILL_REASONS {
            self.fills.with_label_values(&[reason]);
        }
        self
    }

    /// Returns the gauge of the servers that a process of its own depends on.
    #[must_use]
    pub fn up(&self) -> IntGaugeVec {
        #[allow(clippy::expect_used)] // names and labels are constants
        let up = IntGaugeVec::new(
            Opts::new(
                "cns_events_up",
                "1 if the server was reached when it was last needed, 0 if not, by peer.",
            ),
            &["peer"],
        )
        .expect("a metric is well formed");
        up.with_label_values(&[Dependency::Database.name()]);
        // A registry refuses only a name that is taken already.
        let _ = self.registry.register(Box::new(up.clone()));
        up
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_exists_from_the_start() {
        let metrics = AggregateMetrics::new();
        drop(metrics.up());
        let text = crate::metrics::render(&metrics.registry);
        for name in AggregateMetrics::names() {
            assert!(text.contains(&format!("# TYPE {name} ")), "{name}");
        }
        assert!(text.contains(r#"cns_events_up{peer="database"} 0"#), "{text}");
        // Within a worker, whose registry has its own metrics.
        drop(AggregateMetrics::within(crate::metrics::Metrics::new().registry()));
    }
}
