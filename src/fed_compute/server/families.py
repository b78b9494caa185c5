"""Families of metrics, each made from its entry in `metric_names` and filled with values."""

from collections.abc import Iterable, Mapping
from typing import TypeVar

from prometheus_client.metrics_core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)

from fed_compute.coordinator.totals import Distribution
from fed_compute.server.metric_names import BY_NAME, Kind

Labels = tuple[str, ...]
_Labels = TypeVar("_Labels", bound=Labels)


def counted(name: str, values: Mapping[_Labels, float]) -> Metric:
    """Return a counter or gauge; `values` are by label values, in the order of the labels."""
    metric = BY_NAME[f"fed_compute_{name}"]
    make = CounterMetricFamily if metric.kind is Kind.COUNTER else GaugeMetricFamily
    family = make(metric.name, metric.help, labels=metric.labels)
    for labels, value in values.items():
        family.add_metric(labels, value)
    return family


def spread(name: str, values: Iterable[tuple[Labels, Distribution]]) -> Metric:
    """Return a histogram."""
    metric = BY_NAME[f"fed_compute_{name}"]
    family = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
    for labels, distribution in values:
        family.add_metric(labels, distribution.cumulative(), sum_value=distribution.total)
    return family


def one_of(found: str, all_of: Iterable[str], *labels: str) -> dict[Labels, float]:
    """Return 1 for the word that was found and 0 for the others; `labels` stand before the word."""
    return {(*labels, word): float(word == found) for word in all_of}
