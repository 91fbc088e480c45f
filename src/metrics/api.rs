//! Metrics of the read API (`cns-events serve`).

use prometheus::{Histogram, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec};

use super::dependency::Dependency;
use super::table::metrics;

metrics! {
    /// Metrics of the read API.
    struct ApiMetrics {}

    /// HTTP requests that were answered, by route and status code.
    requests: IntCounterVec = "cns_events_api_requests_total", &["route", "status"];
    /// Seconds from the headers of a request to the headers of its response, by route.
    request_seconds: HistogramVec = "cns_events_api_request_seconds", &["route"], vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1., 2.5, 5., 10., 30.];
    /// Requests whose bearer token was refused, by reason.
    tokens_refused: IntCounterVec = "cns_events_api_tokens_refused_total", &["reason"];
    /// Open streams, by kind: Server-Sent Events or WebSocket.
    streams: IntGaugeVec = "cns_events_streams", &["kind"];
    /// Seconds from the begin of the transaction that stored an event to the event's way to a watcher; what a client resumes is late.
    stream_lag: Histogram = "cns_events_stream_lag_seconds", vec![0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1., 2.5, 5., 10., 60., 600.];
    /// Open HTTP connections.
    connections: IntGauge = "cns_events_api_connections";
    /// 1 if the dependency answered the last time it was needed, 0 if not, by dependency.
    up: IntGaugeVec = "cns_events_up", &["peer"];
}

impl ApiMetrics {
    /// Returns the metrics with a registry of their own.
    #[must_use]
    pub fn new() -> Self {
        let metrics = Self::registered();
        metrics.up.with_label_values(&[Dependency::Database.name()]);
        for kind in ["sse", "ws"] {
            metrics.streams.with_label_values(&[kind]);
        }
        metrics
    }

    /// Exports the counters of every route and every reason at 0: alerts need the zero.
    pub(crate) fn start_at_zero(&self, routes: &[String], reasons: &[&str]) {
        for route in routes {
            self.requests.with_label_values(&[route.as_str(), "200"]);
            self.request_seconds.with_label_values(&[route.as_str()]);
        }
        for reason in reasons {
            self.tokens_refused.with_label_values(&[reason]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_there_before_anything_happened() {
        let metrics = ApiMetrics::new();
        metrics.start_at_zero(&["/livez".to_owned()], &["missing"]);
        let text = crate::metrics::render(&metrics.registry);
        for name in ApiMetrics::names() {
            assert!(text.contains(&format!("# TYPE {name} ")), "{name}");
        }
    }
}
