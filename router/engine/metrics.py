"""The load of a vLLM server as its ``/metrics`` tells it, and the poller that reports it to the router."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from router.core.types import LoadReport
from router.engine.context import EngineContext
from router.engine.http import FetchError, Limits, fetch
from router.engine.prometheus import MalformedLineError, Sample, label, labels_of, samples

LIMITS = Limits(timeout_s=2.0)

_GAUGES = {
    "running": (b"vllm:num_requests_running",),
    "waiting": (b"vllm:num_requests_waiting",),
    "kv_usage": (b"vllm:kv_cache_usage_perc", b"vllm:gpu_cache_usage_perc"),
    "queries": (b"vllm:prefix_cache_queries_total", b"vllm:gpu_prefix_cache_queries_total"),
    "hits": (b"vllm:prefix_cache_hits_total", b"vllm:gpu_prefix_cache_hits_total"),
}
"""Names of today's vLLM first, then those of vLLM up to 0.11."""


@dataclass(slots=True)
class EngineLoad:
    """One engine (data-parallel rank) of a server."""

    running: float = 0.0
    waiting: float = 0.0
    kv_usage: float = 0.0
    queries: float = 0.0
    hits: float = 0.0


@dataclass(slots=True)
class Scrape:
    """What one ``/metrics`` body says. ``engines`` by the label ``engine``, empty when it names none."""

    engines: dict[str, EngineLoad] = field(default_factory=dict)
    active_adapters: frozenset[str] = frozenset()
    started_s: float = 0.0
    """When the server process was started, Unix time; 0 when it does not say."""
    malformed: list[str] = field(default_factory=list)

    def report(self, rank: int | None) -> LoadReport | None:
        """Load of one data-parallel rank, or of the whole server; None when the body does not know it."""
        if rank is None:
            engines = list(self.engines.values())
        else:
            engines = [load for name, load in self.engines.items() if name == str(rank)]
        if not engines:
            return None
        return LoadReport(
            running=int(sum(load.running for load in engines)),
            waiting=int(sum(load.waiting for load in engines)),
            kv_usage=min(sum(load.kv_usage for load in engines) / len(engines), 1.0),
            prefix_queries_tokens=sum(load.queries for load in engines),
            prefix_hits_tokens=sum(load.hits for load in engines),
            active_adapters=self.active_adapters,
        )


def read_scrape(body: bytes) -> Scrape:
    """Never raises: a malformed line is listed, the rest of its metric is skipped."""
    scrape = Scrape()
    for attribute, names in _GAUGES.items():
        for name in names:
            if _read_gauge(scrape, body, name, attribute):
                break
    started = _read(scrape, body, b"process_start_time_seconds")
    scrape.started_s = started[0].value if started else 0.0
    lora = _read(scrape, body, b"vllm:lora_requests_info")
    if lora:
        scrape.active_adapters = _adapters(max(lora, key=lambda sample: sample.value))
    return scrape


def _read_gauge(scrape: Scrape, body: bytes, name: bytes, attribute: str) -> bool:
    """Whether the metric is there."""
    found = _read(scrape, body, name)
    for sample in found:
        load = scrape.engines.setdefault(label(sample.labels, b"engine"), EngineLoad())
        setattr(load, attribute, getattr(load, attribute) + sample.value)
    return bool(found)


def _read(scrape: Scrape, body: bytes, name: bytes) -> list[Sample]:
    found: list[Sample] = []
    try:
        for sample in samples(body, name):
            if not (math.isfinite(sample.value) and sample.value >= 0):
                raise MalformedLineError(f"{name.decode()} is {sample.value}")
            found.append(sample)
    except MalformedLineError as error:
        scrape.malformed.append(str(error))
    return found


def _adapters(newest: Sample) -> frozenset[str]:
    """vLLM leaves a line for every set of adapters that it ever ran; the value is when it was last true."""
    labels = labels_of(newest.labels)
    names = f"{labels.get('running_lora_adapters', '')},{labels.get('waiting_lora_adapters', '')}"
    return frozenset(name.strip() for name in names.split(",") if name.strip())


class MetricsPoller:
    """Scrapes one server again and again and reports each of its replicas.

    ``names`` maps a data-parallel rank (None: the whole server) to the replica's name. While ``paused`` it rests.
    ``on_restart`` is called when the server is another process than before.
    """

    def __init__(
        self, url: str, context: EngineContext, on_restart: Callable[[], None], interval_s: float = 1.0
    ) -> None:
        self.names: dict[int | None, str] = {}
        self.paused = True
        self.scrapes = 0
        self.started_s = 0.0
        self._url = url
        self._context = context
        self._on_restart = on_restart
        self._interval_s = interval_s
        self._jitter = Random(url)

    async def run(self) -> None:
        """Until cancelled. The jitter keeps the scrapes of a fleet apart."""
        while True:
            await asyncio.sleep(self._interval_s * self._jitter.uniform(0.8, 1.2))
            if not self.paused:
                async with self._context.scrapes:
                    await self.poll()

    async def poll(self) -> None:
        """One scrape. A failure is counted; it is for the health check to say that the server is gone."""
        try:
            body = await fetch(self._context.session, f"{self._url}/metrics", LIMITS)
        except FetchError as error:
            self._context.troubles.note("scrape_failed", self._url, str(error))
        else:
            self.scrapes += 1
            self._take(read_scrape(body))

    def _take(self, scrape: Scrape) -> None:
        troubles = self._context.troubles
        if scrape.malformed:
            troubles.note("malformed_metric", self._url, scrape.malformed[0], len(scrape.malformed))
        now = self._context.clock()
        for rank, name in self.names.items():
            report = scrape.report(rank)
            if report is None:
                troubles.note("no_load_metrics", self._url, f"/metrics says nothing of the load of {name}")
            else:
                self._context.router.on_load(name, report, now)
        if 0 < self.started_s < scrape.started_s:
            self._on_restart()
        self.started_s = max(self.started_s, scrape.started_s)
