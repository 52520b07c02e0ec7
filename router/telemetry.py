"""What Weft tells Prometheus: every counter of the router, read when it is scraped, nothing counted twice.

Nothing here is on a request's path: the parts count in plain integers, and this collector gathers them.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from time import monotonic

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from flow.guarded import Guarded as GuardedOrder
from flow.warm_ups.warm_ups import WarmUps
from router.core.router import Router
from router.core.types import Health, IndexState
from router.disaggregation_metrics import disaggregation_metrics
from router.families import Counts, by, counter, gauge, histogram, states
from router.flow_metrics import flow_metrics
from router.program_metrics import program_metrics
from router.proxy.stats import ProxyStats
from router.warm_up_metrics import warm_up_metrics
from scorers.guarded import Guarded

_OTHERS = "(other)"


@dataclass(slots=True, frozen=True)
class Mishaps:
    """What was dropped or gone wrong outside the router, by kind."""

    troubles: Callable[[], Counts]
    prompts_skipped: Callable[[], Counts]
    hints_ignored: Callable[[], Counts]


class Telemetry:
    """Renders /metrics. ``tenants`` are shown by name, all others together: strangers make no time series."""

    def __init__(
        self,
        router: Router,
        proxy: ProxyStats,
        mishaps: Mishaps,
        tenants: Collection[str] = (),
        extproc: Callable[[], Iterator[Metric]] | None = None,
        warm_ups: WarmUps | None = None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        """``extproc`` gives the metrics of the ext-proc server, where there is one; the router is told the time by
        ``clock``."""
        self._extproc = extproc
        self._warm_ups = warm_ups
        self._clock = clock
        self._router = router
        self._proxy = proxy
        self._mishaps = mishaps
        self._tenants = tuple(tenants)
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def render(self) -> bytes:
        """The metrics in Prometheus' text format."""
        return generate_latest(self._registry)

    def collect(self) -> Iterator[Metric]:
        yield from self._requests()
        yield from self._queue()
        yield from flow_metrics(self._router.room)
        if self._router.programs is not None:
            yield from program_metrics(self._router.programs)
        if self._warm_ups is not None:
            yield from warm_up_metrics(self._warm_ups)
        if self._router.pairing is not None:
            yield from disaggregation_metrics(self._router.pairing, self._clock)
        yield from self._cache()
        yield from self._replicas()
        yield from self._data_plane()
        if self._extproc is not None:
            yield from self._extproc()
        yield from self._dropped()

    def _requests(self) -> Iterator[Metric]:
        stats = self._router.stats
        yield counter("weft_requests", "Requests submitted to the router", stats.submitted)
        refused = {reason.value: count for reason, count in stats.refused.items()}
        yield by("weft_requests_refused", "Requests that went to no replica", "reason", refused)
        ended = {outcome.value: count for outcome, count in stats.ended.items()}
        yield by("weft_dispatches", "Dispatches to replicas by how they ended", "outcome", ended)
        yield counter("weft_in_flight_timeouts", "Requests given up because no end was seen", stats.timed_out_in_flight)
        yield histogram("weft_ttft_seconds", "Submit to first byte of streamed answers", stats.ttft_s)
        yield histogram("weft_e2e_seconds", "Submit to end of answers", stats.e2e_s)

    def _queue(self) -> Iterator[Metric]:
        router = self._router
        waiting = GaugeMetricFamily("weft_queue_waiting", "Requests that wait in the router", labels=["tenant"])
        by_tenant = router.room.bounds.by_tenant
        for tenant in self._tenants:
            waiting.add_metric([tenant], by_tenant[tenant])
        waiting.add_metric([_OTHERS], router.waiting - sum(by_tenant[tenant] for tenant in self._tenants))
        yield waiting
        yield histogram("weft_queue_wait_seconds", "Waits of requests that had to queue and left", router.room.wait_s)
        yield counter("weft_queue_withdrawn", "Requests whose client left while they waited", router.stats.withdrawn)
        if isinstance(router.order, GuardedOrder):
            mishaps = {router.order.name: router.order.mishaps}
            yield by("weft_order_mishaps", "Ranks not used because a user's order failed", "order", mishaps)

    def _cache(self) -> Iterator[Metric]:
        stats, index = self._router.stats, self._router.index
        yield counter("weft_prompt_tokens", "Prompt tokens of dispatched requests", stats.prompt_tokens)
        yield counter(
            "weft_predicted_cached_tokens", "Prompt tokens expected in cache at dispatch", stats.predicted_cached_tokens
        )
        yield counter(
            "weft_reported_prompt_tokens",
            "Prompt tokens in answers that report cached tokens",
            stats.reported_prompt_tokens,
        )
        yield counter(
            "weft_reported_cached_tokens", "Cached tokens that replicas reported", stats.reported_cached_tokens
        )
        yield GaugeMetricFamily("weft_index_memory_bytes", "Memory of the prefix index", index.memory_bytes)
        yield GaugeMetricFamily("weft_index_distinct_blocks", "Different blocks in the index", index.distinct_blocks)

    def _replicas(self) -> Iterator[Metric]:
        router = self._router
        fleet, load = router.fleet, router.load
        columns = {
            "weft_replica_queued_requests": ("Requests waiting for prefill", load.queued + load.foreign_queued),
            "weft_replica_running_requests": ("Requests answering", load.started + load.foreign_running),
            "weft_replica_queued_prefill_tokens": ("Prompt tokens still to compute", load.prefill_tokens),
            "weft_replica_context_tokens": ("Prompt tokens in flight", load.context_tokens),
            "weft_replica_kv_usage": ("Share of KV blocks in use, by the last report", load.kv_usage),
            "weft_replica_prefill_tokens_per_second": ("Learned prefill rate", load.prefill_rate),
        }
        for name, (text, column) in columns.items():
            yield gauge(name, text, ((spec.name, float(column[slot])) for slot, spec in fleet))
        held = ((spec.name, router.index.held_blocks(slot)) for slot, spec in fleet)
        yield gauge("weft_replica_index_blocks", "Blocks known to be held", held)
        yield states("weft_replica_health", "health", Health, ((s.name, fleet.health[slot]) for slot, s in fleet))
        yield states(
            "weft_replica_index_state", "state", IndexState, ((s.name, fleet.index_states[slot]) for slot, s in fleet)
        )

    def _data_plane(self) -> Iterator[Metric]:
        proxy = self._proxy
        yield GaugeMetricFamily("weft_client_connections", "Open client connections", proxy.connections_open)
        yield GaugeMetricFamily("weft_requests_in_flight", "Requests being served", proxy.requests_in_flight)
        answers = {str(status): count for status, count in proxy.answers.items()}
        yield by("weft_answers", "Answers to clients by status", "status", answers)
        yield by("weft_tries", "Tries at replicas by outcome", "outcome", proxy.tries)
        yield counter("weft_retries", "Tries after the first of a request", proxy.retries)
        yield counter("weft_retries_denied", "Retries that the budget did not allow", proxy.retries_denied)
        yield counter("weft_upstream_connects", "Connections opened to replicas", proxy.connects)
        yield counter("weft_upstream_connect_failures", "Connections that failed to open", proxy.connect_failures)
        yield counter("weft_upstream_stale_connections", "Kept connections found dead", proxy.stale_connections)
        yield counter("weft_clients_gone", "Requests whose client left early", proxy.clients_gone)
        yield counter("weft_clients_stalled", "Clients cut off because they did not read", proxy.clients_stalled)
        yield counter("weft_clients_timed_out", "Requests that did not arrive in time", proxy.clients_timed_out)
        yield counter("weft_priorities_refused", "Replicas found to take no priorities", proxy.priorities_refused)
        yield by("weft_pd_legs", "Prefill legs sent by outcome", "outcome", proxy.prefill_legs)
        text = "Requests that their decode replica served alone in spite of a prefill leg"
        yield by("weft_pd_served_whole", text, "reason", proxy.served_whole)
        yield counter("weft_pd_stranded", "Prompts whose KV blocks nobody fetched", proxy.stranded)
        yield counter("weft_answers_broken_off", "Answers that failed after their first byte", proxy.broken_off)
        yield counter("weft_internal_errors", "Requests lost to an unexpected error", proxy.internal_errors)

    def _dropped(self) -> Iterator[Metric]:
        yield by("weft_engine_troubles", "What went wrong at the engine side", "kind", self._mishaps.troubles())
        yield by("weft_prompts_skipped", "Requests routed by load alone", "reason", self._mishaps.prompts_skipped())
        yield by("weft_hints_ignored", "Malformed hints of clients", "hint", self._mishaps.hints_ignored())
        strays = self._router.stats.events_of_unknown_replica
        yield counter("weft_stray_events", "KV event batches of replicas that had left", strays)
        guarded = {
            each.scorer.name: each.scorer.mishaps
            for profile in self._router.profiles.values()
            for each in profile.scorers
            if isinstance(each.scorer, Guarded)
        }
        yield by("weft_scorer_mishaps", "Scores thrown away because a user's scorer failed", "scorer", guarded)
