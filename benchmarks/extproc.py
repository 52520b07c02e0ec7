"""Weft behind Envoy: requests/s, added latency, chunks/s, and the CPU of Envoy and of Weft for each of them.

    python benchmarks/extproc.py [--quick] [--json FILE] [--only envoy,noop,weft-text,...] [--tests "1k c64,..."]

Envoy and Weft share one core; four fake replicas (one process) and the load generator share the other. Beside them run
Envoy alone, Envoy with an ext-proc server that only names replicas in turn, and Weft as a proxy on the same core.
``first``: every prompt is new. ``next``: 99 % of a prompt were seen before, and 4 KiB are new.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from load.arguments import chosen, make_parser, plan_of
from load.extproc_targets import extproc_targets
from load.machine import describe
from load.measure import Bench, Report, Test
from load.programs import HarnessError, compile_programs

from router.envoy.process import EnvoyMissingError

_STREAMS = ("-S", "-t", "200")
_LARGE = ("-s", "409600", "-c", "8", "-g", "8")
TESTS = (
    Test("1k c1", ("-s", "1024", "-c", "1")),
    Test("1k c64", ("-s", "1024", "-c", "64")),
    Test("32k c1", ("-s", "32768", "-c", "1")),
    Test("32k c64", ("-s", "32768", "-c", "64")),
    Test("400k c1", ("-s", "409600", "-c", "1", "-g", "8", "-f", "0.99")),
    Test("400k first", (*_LARGE, "-f", "0")),
    Test("400k next", (*_LARGE, "-f", "0.99")),
    Test("sse c64", (*_STREAMS, "-c", "64"), streams=True),
    Test("sse c64 10ms", (*_STREAMS, "-c", "64"), streams=True, step_us=10_000),
)


def main() -> int:
    """Measures what is asked for and prints the table. Returns the exit status."""
    arguments = make_parser(__doc__).parse_args()
    plan = plan_of(arguments, TESTS)
    os.sched_setaffinity(0, {plan.load_core})
    record: Report = {"when": time.strftime("%F %T"), "machine": describe(), "seconds": plan.seconds, "targets": {}}
    with tempfile.TemporaryDirectory(prefix="extproc-benchmark-") as directory:
        compile_programs(Path(directory))
        for target in chosen(extproc_targets(), arguments.only):
            print(target.name, flush=True)
            with Bench(plan, Path(directory)) as bench:
                record["targets"][target.name] = bench.measure(target, _print_result)
            if arguments.json:
                arguments.json.write_text(json.dumps(record, indent=1), encoding="utf-8")
    print("\n" + table(record["targets"]))
    return 0


def table(results: Mapping[str, Report]) -> str:
    """One row per test and target."""
    lines = ["| test | target | per s | added p50 / p99 µs | CPU µs, Envoy | CPU µs, Weft or picker | foreign CPU |"]
    lines.append("|---|---|--:|--:|--:|--:|--:|")
    alone = results.get("envoy", {"tests": {}})["tests"]
    for test in TESTS:
        for target, report in results.items():
            if test.name in report["tests"]:
                lines.append(_line(test, target, report["tests"][test.name], alone.get(test.name)))
    return "\n".join(lines)


def _line(test: Test, target: str, result: Report, alone: Report | None) -> str:
    median = result["median"]
    envoy, others = _cpu_us(median)
    foreign = max(run["foreign"] for run in result["runs"])
    rate = median["chunks_per_s" if test.streams else "requests_per_s"]
    cells = [test.name, target, f"{rate:,.0f}", _latency(median, alone), f"{envoy:,.1f}", f"{others:,.1f}"]
    return f"| {' | '.join(cells)} | {foreign:.0%} |"


def _cpu_us(median: Report) -> tuple[float, float]:
    """Of Envoy, and of whatever else ran on its core for it: of one request, or of one chunk of a stream."""
    by_name = median["cpu_us_by_name"]
    envoy = by_name.get("envoy", 0.0)
    return envoy, sum(by_name.values()) - envoy


def _latency(median: Report, alone: Report | None) -> str:
    """Over Envoy alone; in brackets, where that was not measured, as it was."""
    latency = median["latency_us"]
    if alone is None or alone["median"] is median:
        return f"({latency['p50']:,.0f} / {latency['p99']:,.0f})"
    base = alone["median"]["latency_us"]
    return f"{latency['p50'] - base['p50']:,.0f} / {latency['p99'] - base['p99']:,.0f}"


def _print_result(test: str, result: Report) -> None:
    median = result["median"]
    envoy, others = _cpu_us(median)
    failures = sum(run["failures"] for run in result["runs"])
    print(
        f"  {test:<13}{median['requests_per_s']:>9,.0f} requests/s {median['chunks_per_s']:>9,.0f} chunks/s"
        f"  p50 {median['latency_us']['p50']:>9,.0f} µs  p99 {median['latency_us']['p99']:>9,.0f} µs"
        f"  CPU µs: envoy {envoy:,.1f}, other {others:,.1f}  foreign {median['foreign']:.0%}"
        + (f"  {failures} FAILED" if failures else ""),
        flush=True,
    )


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (HarnessError, EnvoyMissingError) as problem:
        sys.exit(f"extproc.py: {problem}")
