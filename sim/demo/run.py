"""The demo's runs: all ways of routing at once, each on a fleet of its own, and what is known of them so far."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import aiohttp

from sim.demo.agents import run_programs
from sim.demo.client import Client
from sim.demo.fleet import Fleet, running_fleet
from sim.demo.measure import Call, Summary, summarise
from sim.demo.ways import COMPARED, Way
from sim.demo.workload import Program

LOAD_INTERVAL_S = 0.5

_GAUGE = re.compile(r"^vllm:num_requests_(running|waiting)(?:\{[^}]*\})? (\S+)$", re.MULTILINE)


@dataclass(slots=True, frozen=True)
class Load:
    """What a replica is busy with, from its own metrics."""

    running: int = 0
    waiting: int = 0


@dataclass(slots=True)
class Run:
    """Filled while it goes on; a view may read it at any time."""

    way: Way
    planned_calls: int
    replicas: int
    calls: list[Call] = field(default_factory=list)
    programs_s: list[float] = field(default_factory=list)
    """What each complete program took."""
    loads: list[Load] = field(init=False)
    started_s: float | None = None
    """On the clock of ``time.perf_counter``; None until all fleets are ready."""
    ended_s: float | None = None

    def __post_init__(self) -> None:
        self.loads = [Load()] * self.replicas

    def elapsed_s(self, now_s: float) -> float:
        if self.started_s is None:
            return 0.0
        return (self.ended_s or now_s) - self.started_s

    def summary(self) -> Summary | None:
        return summarise(self.calls, self.programs_s)


def planned_runs(programs: Sequence[Program], replicas: int) -> list[Run]:
    calls = sum(program.calls for program in programs)
    return [Run(way, calls, replicas) for way in COMPARED]


async def execute(runs: Sequence[Run], programs: Sequence[Program], engine_profile: str, directory: Path) -> None:
    """Run all programs against all fleets at the same time. Raises FleetError when one does not hold."""
    async with contextlib.AsyncExitStack() as stack:
        # One by one: the first router after an installation compiles its kernels, and the others find them.
        fleets = [
            await stack.enter_async_context(running_fleet(run.replicas, engine_profile, run.way.options, directory))
            for run in runs
        ]
        try:
            async with asyncio.TaskGroup() as group:
                for run, fleet in zip(runs, fleets, strict=True):
                    group.create_task(_execute(run, fleet, programs))
        except ExceptionGroup as errors:
            raise errors.exceptions[0] from None


async def _execute(run: Run, fleet: Fleet, programs: Sequence[Program]) -> None:
    client = Client(fleet.http, fleet.router_url, fleet.model)
    watch = asyncio.create_task(_watch_loads(run, fleet))
    run.started_s = time.perf_counter()
    try:
        await fleet.during(run_programs(client, programs, run.calls.append, run.programs_s.append))
    finally:
        run.ended_s = time.perf_counter()
        watch.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watch


async def _watch_loads(run: Run, fleet: Fleet) -> None:
    while True:
        # A replica that died is noticed by the fleet, which tells more than this could.
        with contextlib.suppress(aiohttp.ClientError):
            run.loads = list(await asyncio.gather(*(_load(fleet.http, url) for url in fleet.replica_urls)))
        await asyncio.sleep(LOAD_INTERVAL_S)


async def _load(http: aiohttp.ClientSession, url: str) -> Load:
    async with http.get(f"{url}/metrics") as response:
        return read_load(await response.text())


def read_load(metrics: str) -> Load:
    """The two gauges of vLLM's metrics page that the view shows."""
    gauges = {name: int(float(value)) for name, value in _GAUGE.findall(metrics)}
    return Load(gauges.get("running", 0), gauges.get("waiting", 0))
