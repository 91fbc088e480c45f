//! What Prometheus scrapes. The doc comment of a metric is its help text; no label takes a value that a
//! producer or a caller chooses.

mod prune;
mod worker;

use prometheus::core::Collector;
use prometheus::{Encoder, Gauge, Opts, Registry, TextEncoder};

pub use prune::PruneMetrics;
pub use worker::Metrics;

/// Who can be lost and found again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dependency {
    /// RabbitMQ.
    Broker,
    /// `PostgreSQL`.
    Database,
}

impl Dependency {
    /// Both.
    pub const ALL: [Dependency; 2] = [Dependency::Broker, Dependency::Database];

    /// The value of the `peer` label.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Dependency::Broker => "broker",
            Dependency::Database => "database",
        }
    }
}

/// A struct of metrics, each registered under its name with its doc comment as the help text.
macro_rules! metrics {
    (
        $(#[doc = $about:literal])+
        struct $Metrics:ident { $($own:ident: $Own:ty),* }
        $($(#[doc = $help:literal])+ $name:ident: $kind:ident = $metric:literal $(, $extra:expr)*;)+
    ) => {
        $(#[doc = $about])+
        #[derive(Debug)]
        pub struct $Metrics {
            registry: prometheus::Registry,
            $($own: $Own,)*
            $($(#[doc = $help])+ pub $name: $kind,)+
        }

        impl $Metrics {
            #[allow(clippy::expect_used)] // names and labels are constants, and a test registers them
            fn registered() -> Self {
                let registry = $crate::metrics::registry();
                $(
                    let help = concat!($($help),+).trim();
                    let $name = $crate::metrics::new::$kind($metric, help $(, $extra)*).expect("a metric is well formed");
                    registry.register(Box::new($name.clone())).expect("a metric has its own name");
                )+
                $Metrics { registry, $($own: Default::default(),)* $($name),+ }
            }

            /// Where they are registered, with what every process tells.
            #[must_use]
            pub fn registry(&self) -> prometheus::Registry {
                self.registry.clone()
            }

            #[cfg(test)]
            fn names() -> Vec<&'static str> {
                vec![$($metric),+]
            }
        }

        impl Default for $Metrics {
            fn default() -> Self {
                Self::new()
            }
        }
    };
}
pub(crate) use metrics;

/// Constructors by type, so that a table of metrics reads like one.
#[allow(non_snake_case)]
pub(crate) mod new {
    use prometheus::{
        Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    };

    pub(crate) fn IntCounter(name: &str, help: &str) -> prometheus::Result<IntCounter> {
        IntCounter::new(name, help)
    }
    pub(crate) fn IntGauge(name: &str, help: &str) -> prometheus::Result<IntGauge> {
        IntGauge::new(name, help)
    }
    pub(crate) fn IntCounterVec(
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> prometheus::Result<IntCounterVec> {
        IntCounterVec::new(Opts::new(name, help), labels)
    }
    pub(crate) fn IntGaugeVec(name: &str, help: &str, labels: &[&str]) -> prometheus::Result<IntGaugeVec> {
        IntGaugeVec::new(Opts::new(name, help), labels)
    }
    pub(crate) fn Histogram(name: &str, help: &str, buckets: Vec<f64>) -> prometheus::Result<Histogram> {
        Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets))
    }
    pub(crate) fn HistogramVec(
        name: &str,
        help: &str,
        labels: &[&str],
        buckets: Vec<f64>,
    ) -> prometheus::Result<HistogramVec> {
        HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets), labels)
    }
}

/// A registry with what every process tells of itself.
pub(crate) fn registry() -> Registry {
    let registry = Registry::new();
    // Only a name that is taken already is refused, and these are the first.
    let register = |collector: Box<dyn Collector>| drop(registry.register(collector));
    let info = Opts::new("cns_events_build_info", "Which build this is; always 1.")
        .const_label("version", env!("CARGO_PKG_VERSION"))
        .const_label("revision", crate::REVISION);
    if let Ok(info) = Gauge::with_opts(info) {
        info.set(1.0);
        register(Box::new(info));
    }
    #[cfg(target_os = "linux")]
    register(Box::new(prometheus::process_collector::ProcessCollector::for_self()));
    registry
}

/// The Prometheus text format.
#[must_use]
pub fn render(registry: &Registry) -> String {
    let mut text = Vec::new();
    // Writing to memory does not fail, and the families are well formed by construction.
    let _ = TextEncoder::new().encode(&registry.gather(), &mut text);
    String::from_utf8(text).unwrap_or_default()
}
