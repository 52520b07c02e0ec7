"""Families of Prometheus metrics, made of plain numbers when they are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from router.core.histogram import Histogram

Counts = Mapping[str, int]


def counter(name: str, text: str, value: int) -> Metric:
    return CounterMetricFamily(name, text, value)


def by(name: str, text: str, label: str, counts: Counts) -> Metric:
    family = CounterMetricFamily(name, text, labels=[label])
    for key, value in counts.items():
        family.add_metric([key], value)
    return family


def gauge(name: str, text: str, values: Iterable[tuple[str, float]]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=["replica"])
    for replica, value in values:
        family.add_metric([replica], value)
    return family


def states(name: str, label: str, states: Iterable[str], values: Iterable[tuple[str, str]]) -> Metric:
    """1 for the state that a replica is in, 0 for the others."""
    family = GaugeMetricFamily(name, f"1 for the {label} that the replica is in", labels=["replica", label])
    known = list(states)
    for replica, current in values:
        for state in known:
            family.add_metric([replica, state], float(state == current))
    return family


def histogram(name: str, text: str, values: Histogram) -> Metric:
    return HistogramMetricFamily(name, text, buckets=list(values.cumulative()), sum_value=values.total)


def histograms(name: str, text: str, label: str, values: Mapping[str, Histogram]) -> Metric:
    family = HistogramMetricFamily(name, text, labels=[label])
    for key, each in values.items():
        family.add_metric([key], buckets=list(each.cumulative()), sum_value=each.total)
    return family
