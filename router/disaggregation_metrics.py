"""What Weft tells Prometheus of prefill and decode legs, and of the replicas that they need."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from router.core.disaggregation.demand import TARGET
from router.core.disaggregation.pairing import Pairing
from router.core.disaggregation.topology import Distance
from router.families import by, counter


def disaggregation_metrics(pairing: Pairing, clock: Callable[[], float]) -> Iterator[Metric]:
    """Requests count only in fleets whose replicas have roles."""
    stats = pairing.stats
    ways = {"disaggregated": stats.disaggregated, "aggregated": stats.aggregated}
    yield by("weft_pd_requests", "Requests by where their prompt was to be computed", "way", ways)
    fallbacks = {reason.value: count for reason, count in stats.fallbacks.items()}
    yield by("weft_pd_fallbacks", "Requests aggregated for another reason than the rule", "reason", fallbacks)
    yield counter("weft_pd_prefills_failed", "Prefill legs that replicas failed", stats.prefills_failed)
    yield counter("weft_pd_prefill_tokens", "Prompt tokens that prefill legs were to compute", stats.prefill_tokens)
    yield counter("weft_pd_fetched_tokens", "Prompt tokens that decode replicas were to fetch", stats.fetched_tokens)
    yield _bandwidths(pairing)
    now = clock()
    busy = GaugeMetricFamily("weft_pd_demand_replicas", "Replicas that a leg keeps busy, by a minute", labels=["role"])
    wanted = GaugeMetricFamily("weft_pd_wanted_replicas", "Replicas that there should be for a leg", labels=["role"])
    for role in TARGET:
        busy.add_metric([role.value], pairing.demand.replicas(role, now))
        wanted.add_metric([role.value], pairing.demand.wanted(role, now))
    yield from (busy, wanted)


def _bandwidths(pairing: Pairing) -> Metric:
    text = "KV transfers between replicas, learned"
    family = GaugeMetricFamily("weft_pd_transfer_bytes_per_second", text, labels=["distance"])
    for distance in Distance:
        learned = pairing.planner.transfers.bandwidth_bytes_per_s(distance)
        if learned is not None:
            family.add_metric([distance.name.lower()], learned)
    return family
