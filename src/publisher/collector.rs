//! A publisher's numbers for Prometheus.

use std::sync::{Mutex, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounter, IntGauge};

use super::{Publisher, Stats};

/// Registers a publisher with a Prometheus registry: `registry.register(Box::new(PublisherCollector::new(&publisher)?))`.
///
/// The names are those of [`Stats`], as `cns_events_publisher_…`. It keeps the publisher open.
pub struct PublisherCollector {
    publisher: Publisher,
    scraping: Mutex<()>,
    counters: Vec<(IntCounter, Value)>,
    gauges: Vec<(IntGauge, Value)>,
}

/// Which of the numbers a metric shows.
type Value = fn(&Stats) -> u64;

impl std::fmt::Debug for PublisherCollector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PublisherCollector").finish_non_exhaustive()
    }
}

impl PublisherCollector {
    /// A collector for one publisher.
    ///
    /// # Errors
    /// None that a name here can cause; prometheus' signature has one.
    pub fn new(publisher: &Publisher) -> prometheus::Result<Self> {
        let counter = |name: &str, help: &str| IntCounter::new(format!("cns_events_publisher_{name}"), help);
        let gauge = |name: &str, help: &str| IntGauge::new(format!("cns_events_publisher_{name}"), help);
        Ok(PublisherCollector {
            publisher: publisher.clone(),
            scraping: Mutex::default(),
            counters: vec![
                (counter("accepted_total", "Events taken over from callers.")?, |stats| stats.accepted),
                (counter("invalid_total", "Events that the worker could not store, refused.")?, |stats| {
                    stats.invalid
                }),
                (
                    counter("dropped_total", "Events dropped for want of room, or after the close.")?,
                    |stats| stats.dropped,
                ),
                (counter("confirmed_total", "Events that the broker has confirmed.")?, |stats| {
                    stats.confirmed
                }),
                (counter("returned_total", "Messages that no queue took.")?, |stats| stats.returned),
                (counter("resent_total", "Messages that had to be sent again.")?, |stats| stats.resent),
                (counter("spooled_total", "Events written to the spool.")?, |stats| stats.spooled),
                (
                    counter(
                        "damaged_total",
                        "Events that were in a spool file which turned out to be damaged.",
                    )?,
                    |stats| stats.damaged,
                ),
                (counter("recovered_total", "Events of an earlier process, found in the spool.")?, |stats| {
                    stats.recovered
                }),
            ],
            gauges: vec![
                (gauge("waiting", "Events in memory, not yet sent.")?, |stats| stats.waiting),
                (gauge("in_flight", "Events sent, not yet confirmed.")?, |stats| stats.in_flight),
                (gauge("in_spool", "Events in the spool.")?, |stats| stats.in_spool),
                (gauge("up", "Whether the broker takes events (1) or not (0).")?, |stats| {
                    u64::from(stats.connected)
                }),
            ],
        })
    }
}

impl Collector for PublisherCollector {
    fn desc(&self) -> Vec<&Desc> {
        let counters = self.counters.iter().flat_map(|(counter, _)| counter.desc());
        counters.chain(self.gauges.iter().flat_map(|(gauge, _)| gauge.desc())).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        // Two scrapes at once would both add what has been added since the last.
        let _one = self.scraping.lock().unwrap_or_else(PoisonError::into_inner);
        let stats = self.publisher.stats();
        for (counter, value) in &self.counters {
            counter.inc_by(value(&stats).saturating_sub(counter.get()));
        }
        for (gauge, value) in &self.gauges {
            gauge.set(i64::try_from(value(&stats)).unwrap_or(i64::MAX));
        }
        let counters = self.counters.iter().flat_map(|(counter, _)| counter.collect());
        counters.chain(self.gauges.iter().flat_map(|(gauge, _)| gauge.collect())).collect()
    }
}
