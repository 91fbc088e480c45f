"""The counts of this process for ``prometheus_client`` (``pip install cns-events[prometheus]``)."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector as _Collector

from cns_events._process import stats

_PREFIX = "cns_events_publisher_"

_COUNTERS = {
    "accepted": "Events accepted from callers.",
    "invalid": "Events refused because a worker could not store them.",
    "dropped": "Events dropped because the buffer was full or the publisher closed.",
    "confirmed": "Events confirmed by the broker.",
    "rejected": "Events refused by the broker: too large, or not permitted.",
    "returned": "Messages returned because no queue took them.",
    "resent": "Messages sent again.",
    "spooled": "Events written to the spool.",
    "damaged": "Events of damaged spool files.",
    "recovered": "Events of an earlier process found in the spool.",
}
_GAUGES = {
    "waiting": "Events in memory that are not sent yet.",
    "in_flight": "Events sent and not confirmed yet.",
    "in_spool": "Events in the spool.",
}


class Collector(_Collector):
    """Collector of this process's counts: ``REGISTRY.register(Collector())``. The names are those of the Rust publisher."""

    def collect(self) -> Iterable[Metric]:
        """Return the metrics."""
        counts = stats()
        for name, help_text in _COUNTERS.items():
            yield CounterMetricFamily(_PREFIX + name, help_text, value=getattr(counts, name))
        for name, help_text in _GAUGES.items():
            yield GaugeMetricFamily(_PREFIX + name, help_text, value=getattr(counts, name))
        up = "1 while the broker takes events, 0 otherwise."
        yield GaugeMetricFamily(_PREFIX + "up", up, value=int(counts.connected))
