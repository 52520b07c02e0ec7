"""Measures one target: starts it, runs each test several times, and keeps the quietest tries."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from load.machine import CpuWatch, cpu_s_by_name, memory_mb
from load.programs import HarnessError, Program, control, free_ports, run_client
from load.targets import MODEL, Target

_READY_TIMEOUT_S = 90.0
_WARM_UP_S = 0.5
_TOKENS = 200

Report = dict[str, Any]


@dataclass(slots=True, frozen=True)
class Test:
    """One kind of load. ``step_us``: the replicas' time between two chunks of a stream; 0: as fast as they can."""

    name: str
    arguments: tuple[str, ...]
    streams: bool = False
    step_us: int = 0


_STREAMS = ("-S", "-t", str(_TOKENS))
TESTS = (
    Test("1k c1", ("-s", "1024", "-c", "1")),
    Test("1k c8", ("-s", "1024", "-c", "8")),
    Test("1k c64", ("-s", "1024", "-c", "64")),
    Test("32k c64", ("-s", "32768", "-c", "64")),
    Test("1k 500/s", ("-s", "1024", "-c", "128", "-R", "500")),
    Test("sse c64", (*_STREAMS, "-c", "64"), streams=True),
    Test("sse c64 10ms", (*_STREAMS, "-c", "64"), streams=True, step_us=10_000),
)


@dataclass(slots=True, frozen=True)
class Plan:
    """How long and how often, and on which cores."""

    seconds: float
    repetitions: int
    tries: int
    quiet_share: float
    """A try is good enough when foreign work took less than this share of a core on both cores together."""
    router_core: int
    load_core: int
    tests: tuple[Test, ...] = TESTS


class Bench:
    """Fresh fake replicas, and the directory with the compiled programs."""

    def __init__(self, plan: Plan, directory: Path) -> None:
        self._plan, self._directory = plan, directory
        self._ports = free_ports(4)
        command = [str(directory / "backend"), str(self._ports[0]), str(len(self._ports))]
        self._replicas = Program(command, plan.load_core, directory / "backend.log")

    def __enter__(self) -> Bench:
        self._replicas.__enter__()
        _wait_until(lambda: control(self._ports[0], "/stats"), self._replicas)
        return self

    def __exit__(self, *details: object) -> None:
        self._replicas.__exit__(*details)

    def measure(self, target: Target, on_result: Callable[[str, Report], None]) -> Report:
        """All tests on one target. ``on_result`` hears of each as it is done. Raises HarnessError."""
        with self._running(target) as (port, router):
            pids = [router.pid] if router else []
            report: Report = {"version": target.version, "memory_idle_mb": memory_mb(pids), "tests": {}}
            for test in self._plan.tests:
                report["tests"][test.name] = result = self._repeat(test, port, pids)
                on_result(test.name, result)
            report["memory_end_mb"] = memory_mb(pids)
            stats = control(self._ports[0], "/stats")
            report["affinity"] = stats["affine_requests"] / max(1, stats["group_requests"])
            return report

    @contextmanager
    def _running(self, target: Target) -> Iterator[tuple[int, Program | None]]:
        if target.command is None:
            yield self._ports[0], None
            return
        port = free_ports(2)[0]
        urls = [f"http://127.0.0.1:{each}" for each in self._ports]
        command = target.command(port, urls, self._directory)
        log = self._directory / f"{target.name}.log"
        with Program(command, self._plan.router_core, log, target.environment) as router:
            for _ in range(8):
                _wait_until(lambda: _ask(port), router)
            yield port, router

    def _repeat(self, test: Test, port: int, pids: list[int]) -> Report:
        control(self._ports[0], f"/control?step_us={test.step_us}")
        runs = [self._quietest(test, port, pids, seed) for seed in range(1, self._plan.repetitions + 1)]
        return {"median": _medians(runs), "runs": runs}

    def _quietest(self, test: Test, port: int, pids: list[int], seed: int) -> Report:
        best: Report = {}
        for attempt in range(self._plan.tries):
            run = self._run(test, port, pids, seed * 100 + attempt)
            if not best or run["foreign"] < best["foreign"]:
                best = run
            if best["foreign"] < self._plan.quiet_share:
                break
        return best

    def _run(self, test: Test, port: int, pids: list[int], seed: int) -> Report:
        plan = self._plan
        times = ["-d", str(plan.seconds), "-w", str(_WARM_UP_S), "-r", str(seed)]
        watch, before = CpuWatch(pids, [self._replicas.pid], plan.router_core, plan.load_core), cpu_s_by_name(pids)
        run = run_client(self._directory, plan.load_core, ["-p", str(port), *test.arguments, *times])
        usage, after = watch.stop(), cpu_s_by_name(pids)
        units = max(1, run["all_chunks"] if test.streams else run["all_requests"])
        run["cpu_us_by_name"] = {name: (after[name] - before.get(name, 0.0)) * 1e6 / units for name in after}
        run["cpu_us_per_request"] = usage.router_s * 1e6 / max(1, run["all_requests"])
        run["cpu_us_per_chunk"] = usage.router_s * 1e6 / max(1, run["all_chunks"]) if test.streams else 0.0
        run["foreign_router_core"] = usage.foreign_router_core if pids else 0.0
        run["foreign_load_core"] = usage.foreign_load_core
        run["foreign"] = run["foreign_router_core"] + run["foreign_load_core"]
        run["memory_mb"] = memory_mb(pids)
        return run


def spread(result: Report, *path: str) -> tuple[float, float, float]:
    """(median, lowest, highest) over the repetitions of the number at ``path``."""
    values = [_at(run, path) for run in result["runs"]]
    return statistics.median(values), min(values), max(values)


def _at(run: Report, path: Sequence[str]) -> float:
    value: Any = run
    for key in path:
        value = value[key]
    return float(value)


def _medians(runs: list[Report]) -> Report:
    """The median of each number in the reports, groups of numbers included."""
    medians: Report = {}
    for key, value in runs[0].items():
        if isinstance(value, dict):
            medians[key] = _medians([run[key] for run in runs])
        elif isinstance(value, int | float):
            medians[key] = statistics.median(run[key] for run in runs)
    return medians


def _ask(port: int) -> None:
    body = b'{"model":"%b","max_tokens":2,"messages":[{"role":"user","content":"ready?"}]}' % MODEL.encode()
    request = Request(
        f"http://127.0.0.1:{port}/v1/chat/completions", body, headers={"content-type": "application/json"}
    )
    with urlopen(request, timeout=5) as answer:
        answer.read()


def _wait_until(call: Callable[[], object], program: Program) -> None:
    """Repeats ``call`` until it does not fail. Raises HarnessError when the program ends or takes too long."""
    until = time.monotonic() + _READY_TIMEOUT_S
    while True:
        pid = program.pid
        try:
            call()
            return
        except OSError as error:
            if time.monotonic() > until:
                raise HarnessError(f"process {pid} is not ready: {error}; {program.log_end()}") from error
            time.sleep(0.2)
