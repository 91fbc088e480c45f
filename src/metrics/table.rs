//! The macro that makes a struct of metrics from a table of them.

use prometheus::core::{Collector, Desc};
use prometheus::{Gauge, Opts, Registry};
use serde::Serialize;

/// Defines a struct of metrics. Each is registered under its name, with its doc comment as the help text.
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
            fn registered() -> Self {
                Self::registered_in($crate::metrics::table::registry())
            }

            #[allow(clippy::expect_used)] // names and labels are constants, and a test registers all of them
            fn registered_in(registry: prometheus::Registry) -> Self {
                $(
                    let help = concat!($($help),+).trim();
                    let $name = $crate::metrics::table::new::$kind($metric, help $(, $extra)*).expect("a metric is well formed");
                    registry.register(Box::new($name.clone())).expect("a metric has its own name");
                )+
                $Metrics { registry, $($own: Default::default(),)* $($name),+ }
            }

            /// Returns the registry, which also has the metrics of every process.
            #[must_use]
            pub fn registry(&self) -> prometheus::Registry {
                self.registry.clone()
            }

            /// Returns every metric of the table.
            pub(crate) fn families(&self) -> Vec<$crate::metrics::Family> {
                [$($crate::metrics::table::families(stringify!($kind), &self.$name)),+].concat()
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

/// Constructors of metrics, named as their types, so that the macro can choose by type.
#[allow(non_snake_case)]
pub(crate) mod new {
    use prometheus::{
        Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    };

    pub(crate) fn IntCounter(name: &str, help: &str) -> prometheus::Result<IntCounter> {
        IntCounter::new(name, help)
    }
    pub(crate) fn Gauge(name: &str, help: &str) -> prometheus::Result<Gauge> {
        Gauge::new(name, help)
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

/// One metric family: its name, and what Prometheus and the documentation show of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Family {
    /// Name in Prometheus.
    pub name: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// Names of the labels.
    pub labels: Vec<String>,
    /// Help text.
    pub help: String,
}

/// Returns the families of a collector, whose Rust type determines the kind.
pub(crate) fn families(rust_type: &str, collector: &dyn Collector) -> Vec<Family> {
    let kind = match rust_type {
        "IntCounter" | "IntCounterVec" => "counter",
        "Histogram" | "HistogramVec" => "histogram",
        _ => "gauge",
    };
    let family = |desc: &Desc| {
        let constant = desc.const_label_pairs.iter().map(|label| label.name().to_owned());
        let labels = constant.chain(desc.variable_labels.iter().cloned()).collect();
        Family { name: desc.fq_name.clone(), kind, labels, help: desc.help.clone() }
    };
    collector.desc().into_iter().map(family).collect()
}

/// Returns a registry with the metrics of every process: build and resource usage.
pub(crate) fn registry() -> Registry {
    let registry = Registry::new();
    // A registry refuses only a name that is taken already, and these are the first.
    let register = |collector: Box<dyn Collector>| drop(registry.register(collector));
    if let Ok(info) = build_info() {
        register(Box::new(info));
    }
    #[cfg(target_os = "linux")]
    register(Box::new(prometheus::process_collector::ProcessCollector::for_self()));
    registry
}

/// Returns the gauge that names the build.
pub(crate) fn build_info() -> prometheus::Result<Gauge> {
    let options = Opts::new(
        "cns_events_build_info",
        "Version and revision of the running build; the value is always 1.",
    )
    .const_label("version", env!("CARGO_PKG_VERSION"))
    .const_label("revision", crate::REVISION);
    let info = Gauge::with_opts(options)?;
    info.set(1.0);
    Ok(info)
}
