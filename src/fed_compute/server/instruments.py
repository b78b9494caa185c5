"""Metrics of a process that are kept up while it works, each made from its entry in `metric_names`."""

from collections.abc import Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.metrics_core import Metric

from fed_compute.server.metric_names import BY_NAME

HTTP_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Instruments:
    """What one server process counts of its requests. Safe to share between threads."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self.requests = self._counter("http_requests_total")
        self.seconds = self._histogram("http_request_duration_seconds", HTTP_SECONDS)
        self.in_flight = self._gauge("http_requests_in_flight")
        self.received_bytes = self._counter("http_request_bytes_total")
        self.sent_bytes = self._counter("http_response_bytes_total")
        self.problems = self._counter("http_problems_total")
        self.event_streams = self._gauge("event_streams_open")

    def collect(self) -> Iterator[Metric]:
        """Yield every family, without the times at which its series began: those would be families of their own."""
        for family in self._registry.collect():
            family.samples = [sample for sample in family.samples if not sample.name.endswith("_created")]
            yield family

    def _counter(self, name: str) -> Counter:
        metric = BY_NAME[f"fed_compute_{name}"]
        return Counter(metric.name, metric.help, metric.labels, registry=self._registry)

    def _gauge(self, name: str) -> Gauge:
        metric = BY_NAME[f"fed_compute_{name}"]
        return Gauge(metric.name, metric.help, metric.labels, registry=self._registry)

    def _histogram(self, name: str, bounds: Iterable[float]) -> Histogram:
        metric = BY_NAME[f"fed_compute_{name}"]
        return Histogram(metric.name, metric.help, metric.labels, buckets=tuple(bounds), registry=self._registry)
