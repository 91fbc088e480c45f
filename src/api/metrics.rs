//! What the read API counts.

use prometheus::{HistogramVec, IntCounterVec, IntGauge, IntGaugeVec};

use super::{ROUTES, TokenError};
use crate::metrics::{Dependency, metrics};

metrics! {
    /// Every metric of the read API.
    struct ApiMetrics {}

    /// Answers of the read API, by route and status.
    requests: IntCounterVec = "cns_events_api_requests_total", &["route", "status"];
    /// Seconds from a request's header to its answer's, by route.
    request_seconds: HistogramVec = "cns_events_api_request_seconds", &["route"], vec![0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1., 2.5, 5., 10., 30.];
    /// Tokens that were refused, by reason.
    tokens_refused: IntCounterVec = "cns_events_api_tokens_refused_total", &["reason"];
    /// HTTP connections that are open.
    connections: IntGauge = "cns_events_api_connections";
    /// Whether the peer was reached when it was last asked (1) or not (0).
    up: IntGaugeVec = "cns_events_up", &["peer"];
}

impl ApiMetrics {
    /// A registry of its own.
    #[must_use]
    pub fn new() -> Self {
        let metrics = Self::registered();
        for route in ROUTES {
            // What never counted shows as 0, not as absent.
            metrics.requests.with_label_values(&[route, "200"]);
            metrics.request_seconds.with_label_values(&[route]);
        }
        for reason in TokenError::ALL {
            metrics.tokens_refused.with_label_values(&[reason.name()]);
        }
        metrics.up.with_label_values(&[Dependency::Database.name()]);
        metrics
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_there_before_anything_happened() {
        let text = crate::metrics::render(&ApiMetrics::new().registry);
        for name in ApiMetrics::names() {
            assert!(text.contains(&format!("# TYPE {name} ")), "{name}");
        }
    }
}
