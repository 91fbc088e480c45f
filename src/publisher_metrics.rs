//! Prometheus metrics of a publisher.

use std::sync::{Mutex, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{IntCounter, IntGauge, Opts};

use crate::publisher::{Publisher, Stats};

/// Collector of a publisher's counts: `registry.register(Box::new(PublisherCollector::new(&publisher)?))`.
///
/// The names are those of [`Stats`], with the prefix `cns_events_publisher_`. It keeps the publisher open.
pub struct PublisherCollector {
    publisher: Publisher,
    scraping: Mutex<()>,
    counters: Vec<(IntCounter, Value)>,
    gauges: Vec<(IntGauge, Value)>,
}

/// Prefix of every name.
pub(crate) const PREFIX: &str = "cns_events_publisher_";

/// Value of a metric.
type Value = fn(&Stats) -> u64;

/// Name without prefix, help and value of each counter.
pub(crate) const COUNTERS: [(&str, &str, Value); 10] = [
    ("accepted_total", "Events accepted from callers.", |stats| stats.accepted),
    ("invalid_total", "Events refused because a worker could not store them.", |stats| stats.invalid),
    ("dropped_total", "Events dropped because the buffer was full or the publisher closed.", |stats| {
        stats.dropped
    }),
    ("confirmed_total", "Events confirmed by the broker.", |stats| stats.confirmed),
    ("rejected_total", "Events refused by the broker: too large, or not permitted.", |stats| stats.rejected),
    ("returned_total", "Messages returned because no queue took them.", |stats| stats.returned),
    ("resent_total", "Messages sent again.", |stats| stats.resent),
    ("spooled_total", "Events written to the spool.", |stats| stats.spooled),
    ("damaged_total", "Events of damaged spool files.", |stats| stats.damaged),
    ("recovered_total", "Events of an earlier process found in the spool.", |stats| stats.recovered),
];

/// Name without prefix, help and value of each gauge.
pub(crate) const GAUGES: [(&str, &str, Value); 4] = [
    ("waiting", "Events in memory that are not sent yet.", |stats| stats.waiting),
    ("in_flight", "Events sent and not confirmed yet.", |stats| stats.in_flight),
    ("in_spool", "Events in the spool.", |stats| stats.in_spool),
    ("up", "1 while the broker takes events, 0 otherwise.", |stats| u64::from(stats.connected)),
];

impl std::fmt::Debug for PublisherCollector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PublisherCollector").finish_non_exhaustive()
    }
}

impl PublisherCollector {
    /// Returns a collector for one publisher.
    ///
    /// # Errors
    /// None: the names are valid.
    pub fn new(publisher: &Publisher) -> prometheus::Result<Self> {
        let options = |name: &str, help: &str| Opts::new(format!("{PREFIX}{name}"), help);
        let counters = COUNTERS.iter().map(|(name, help, value)| {
            IntCounter::with_opts(options(name, help)).map(|counter| (counter, *value))
        });
        let gauges = GAUGES
            .iter()
            .map(|(name, help, value)| IntGauge::with_opts(options(name, help)).map(|gauge| (gauge, *value)));
        Ok(PublisherCollector {
            publisher: publisher.clone(),
            scraping: Mutex::default(),
            counters: counters.collect::<prometheus::Result<_>>()?,
            gauges: gauges.collect::<prometheus::Result<_>>()?,
        })
    }
}

impl Collector for PublisherCollector {
    fn desc(&self) -> Vec<&Desc> {
        let counters = self.counters.iter().flat_map(|(counter, _)| counter.desc());
        counters.chain(self.gauges.iter().flat_map(|(gauge, _)| gauge.desc())).collect()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        // Two scrapes at the same time would both add the growth since the last.
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
