//! Prometheus metrics. The doc comment of a metric is its help text. No label takes a value that a producer or a caller
//! chooses.

mod aggregate;
mod api;
mod dependency;
mod prune;
mod table;
mod worker;

use prometheus::{Encoder, Registry, TextEncoder};

pub use aggregate::AggregateMetrics;
pub use api::ApiMetrics;
pub use dependency::Dependency;
pub use prune::PruneMetrics;
pub use table::Family;
pub use worker::Metrics;

use crate::publisher_metrics::{COUNTERS, GAUGES, PREFIX};

/// Returns the metrics of the worker, the read API, retention and the publisher, each family once, sorted by name.
///
/// Every process also exports `process_…`, as the client libraries of Prometheus define it.
#[must_use]
pub fn reference() -> Vec<Family> {
    let build = table::build_info().map(|info| table::families("Gauge", &info)).unwrap_or_default();
    let mut families = [
        build,
        Metrics::new().families(),
        AggregateMetrics::new().families(),
        ApiMetrics::new().families(),
        PruneMetrics::new().families(),
        publisher(),
    ]
    .concat();
    families.sort_by(|one, other| one.name.cmp(&other.name));
    families.dedup_by(|one, other| one.name == other.name);
    families
}

/// Returns the families of a publisher, which a producer registers.
fn publisher() -> Vec<Family> {
    let family = |name: &str, kind: &'static str, help: &str| Family {
        name: format!("{PREFIX}{name}"),
        kind,
        labels: Vec::new(),
        help: help.to_owned(),
    };
    let counters = COUNTERS.iter().map(|(name, help, _)| family(name, "counter", help));
    counters.chain(GAUGES.iter().map(|(name, help, _)| family(name, "gauge", help))).collect()
}

/// Returns the metrics of a registry in the Prometheus text format.
#[must_use]
pub fn render(registry: &Registry) -> String {
    let mut text = Vec::new();
    // Writing to memory does not fail, and the registry has checked the families.
    let _ = TextEncoder::new().encode(&registry.gather(), &mut text);
    String::from_utf8(text).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_family_is_documented_once() {
        let reference = reference();
        assert!(reference.windows(2).all(|pair| pair[0].name < pair[1].name));
        assert!(reference.iter().all(|family| family.help.ends_with('.')), "{reference:?}");
        let family = |name: &str| reference.iter().find(|family| family.name == name).unwrap();
        assert_eq!(family("cns_events_build_info").labels, ["revision", "version"]);
        let requests = family("cns_events_api_requests_total");
        assert_eq!((requests.kind, requests.labels.len()), ("counter", 2));
        assert_eq!(family("cns_events_commit_seconds").kind, "histogram");
    }
}
