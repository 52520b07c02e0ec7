"""vLLM's Prometheus metrics: those that routers and dashboards read, with its names, labels and buckets."""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from sim.engine import Engine, StepResult
from sim.replica.generation import Generation
from sim.replica.kv_transfer.metrics import NixlMetrics
from sim.replica.settings import KvTransfer

_LABELS = {"engine": "0"}
_REASONS = ("stop", "length", "abort", "error", "repetition")
_LATENCY_S = (
    0.3,
    0.5,
    0.8,
    1.0,
    1.5,
    2.0,
    2.5,
    5.0,
    10.0,
    15.0,
    20.0,
    30.0,
    40.0,
    50.0,
    60.0,
    120.0,
    240.0,
    480.0,
    960.0,
    1920.0,
    7680.0,
)
_TTFT_S = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0,
    640.0, 2560.0,
)  # fmt: skip
_ITL_S = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0,
)  # fmt: skip


class Metrics:
    """Of one start of a replica."""

    def __init__(self, engine: Engine, model: str, kv_transfer: KvTransfer | None = None) -> None:
        self._engine = engine
        self._registry = CollectorRegistry()
        self._labels = {**_LABELS, "model_name": model}
        self._shares = kv_transfer is not None
        over_nixl = kv_transfer is not None and kv_transfer.storage is None
        self._elsewhere = "p2p" if over_nixl else "external_unspecified"
        self.nixl = NixlMetrics(self._registry, self._labels) if over_nixl else None
        self._hits_seen = self._queries_seen = self._preemptions_seen = 0
        self._add_gauges()

        self._queries = self._counter("prefix_cache_queries", "Prefix cache queries, in tokens.")
        self._hits = self._counter("prefix_cache_hits", "Prefix cache hits, in tokens.")
        self._preemptions = self._counter("num_preemptions", "Preemptions of requests.")
        self._prompt_tokens = self._counter("prompt_tokens", "Prompt tokens of requests that got their first token.")
        self._generation_tokens = self._counter("generation_tokens", "Output tokens.")
        sources = ("local_compute", "local_cache_hit", "external_kv_transfer")
        self._by_source = self._counters("prompt_tokens_by_source", "Prompt tokens by source.", "source", sources)
        cached_sources = ("device", "host", "p2p", "disk", "external_unspecified")
        cached_help = "Prompt tokens that were not computed, by where they were."
        self._cached = self._counters("prompt_tokens_cached_by_source", cached_help, "source", cached_sources)
        self._external_queries = self._counter("external_prefix_cache_queries", "Tokens looked for elsewhere.")
        self._external_hits = self._counter("external_prefix_cache_hits", "Tokens that were fetched.")
        self._success = self._counters("request_success", "Requests that ended.", "finished_reason", _REASONS)

        self._ttft = self._histogram("time_to_first_token_seconds", "Time to first token.", _TTFT_S)
        self._itl = self._histogram("inter_token_latency_seconds", "Time between tokens.", _ITL_S)
        self._e2e = self._histogram("e2e_request_latency_seconds", "Time from arrival to end.", _LATENCY_S)
        self._queue = self._histogram("request_queue_time_seconds", "Time spent waiting.", _LATENCY_S)
        self._prefill = self._histogram("request_prefill_time_seconds", "Time spent in prefill.", _LATENCY_S)

    def stepped(self, result: StepResult) -> None:
        engine = self._engine
        self._queries.inc(engine.prefix_queries_tokens - self._queries_seen)
        self._hits.inc(engine.prefix_hits_tokens - self._hits_seen)
        self._preemptions.inc(engine.preemptions - self._preemptions_seen)
        self._queries_seen, self._hits_seen = engine.prefix_queries_tokens, engine.prefix_hits_tokens
        self._preemptions_seen = engine.preemptions
        self._generation_tokens.inc(len(result.emitted))

    def emitted(self, generation: Generation, now_s: float) -> None:
        """One token of it exists now."""
        if generation.emitted:
            self._itl.observe(now_s - generation.last_token_s)
        else:
            request = generation.request
            generation.first_token_s = now_s
            self._ttft.observe(now_s - generation.arrived_s)
            self._queue.observe(request.scheduled_s - generation.arrived_s)
            self._prefill.observe(now_s - request.scheduled_s)
            self._prompt_tokens.inc(request.prompt_tokens)
            self._by_source["local_compute"].inc(request.prompt_tokens - generation.found_tokens)
            self._by_source["local_cache_hit"].inc(request.cached_tokens)
            self._by_source["external_kv_transfer"].inc(request.fetched_tokens)
            self._cached["device"].inc(request.cached_tokens)
            self._cached[self._elsewhere].inc(request.fetched_tokens)
            if self._shares:
                self._external_queries.inc(request.prompt_tokens - request.cached_tokens)
                self._external_hits.inc(request.fetched_tokens)
        generation.last_token_s = now_s

    def finished(self, generation: Generation, now_s: float) -> None:
        self._e2e.observe(now_s - generation.arrived_s)
        self._success[generation.planned_reason].inc()

    def aborted(self) -> None:
        """The replica, not the client, ended a request early."""
        self._success["abort"].inc()

    def failed(self) -> None:
        self._success["error"].inc()

    def text(self) -> bytes:
        if self.nixl is not None:
            self.nixl.expired(self._engine.expired_leases)
        return generate_latest(self._registry)

    def _add_gauges(self) -> None:
        engine = self._engine
        self._gauge("num_requests_running", "Requests in the batch.").set_function(lambda: engine.running)
        self._gauge("num_requests_waiting", "Requests that wait.").set_function(lambda: engine.waiting)
        self._gauge("kv_cache_usage_perc", "Share of KV blocks in use, 0 to 1.").set_function(lambda: engine.kv_usage)
        reasons = ("capacity", "deferred")
        by_reason = self._gauges("num_requests_waiting_by_reason", "Requests that wait, by reason.", "reason", reasons)
        by_reason["capacity"].set_function(lambda: engine.waiting - engine.fetching)
        by_reason["deferred"].set_function(lambda: engine.fetching)
        states = ("awake", "weights_offloaded", "discard_all")
        self._gauges("engine_sleep_state", "Whether the engine sleeps.", "sleep_state", states)["awake"].set(1)
        self._add_cache_info()
        started = Gauge("process_start_time_seconds", "Start of the replica, Unix time.", registry=self._registry)
        started.set(time.time())

    def _add_cache_info(self) -> None:
        config = self._engine.config
        info = {
            **_LABELS,
            "block_size": str(config.block_size_tokens),
            "cache_dtype": "auto",
            "enable_prefix_caching": "True",
            "kv_cache_size_tokens": str(config.num_blocks * config.block_size_tokens),
            "num_gpu_blocks": str(config.num_blocks),
            "prefix_caching_hash_algo": "xxhash",
        }
        name = "vllm:cache_config_info"
        Gauge(name, "Configuration of the KV cache.", list(info), registry=self._registry).labels(**info).set(1)

    def _gauge(self, name: str, help_text: str) -> Gauge:
        return Gauge(f"vllm:{name}", help_text, list(self._labels), registry=self._registry).labels(**self._labels)

    def _gauges(self, name: str, help_text: str, label: str, values: tuple[str, ...]) -> dict[str, Gauge]:
        parent = Gauge(f"vllm:{name}", help_text, [*self._labels, label], registry=self._registry)
        return {value: parent.labels(**self._labels, **{label: value}) for value in values}

    def _counter(self, name: str, help_text: str) -> Counter:
        return Counter(f"vllm:{name}", help_text, list(self._labels), registry=self._registry).labels(**self._labels)

    def _counters(self, name: str, help_text: str, label: str, values: tuple[str, ...]) -> dict[str, Counter]:
        parent = Counter(f"vllm:{name}", help_text, [*self._labels, label], registry=self._registry)
        return {value: parent.labels(**self._labels, **{label: value}) for value in values}

    def _histogram(self, name: str, help_text: str, buckets: tuple[float, ...]) -> Histogram:
        parent = Histogram(f"vllm:{name}", help_text, list(self._labels), registry=self._registry, buckets=buckets)
        return parent.labels(**self._labels)
