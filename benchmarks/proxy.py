"""Weft as a proxy, side by side with other routers: requests/s, added latency, SSE chunks/s, CPU, memory.

    python benchmarks/proxy.py [--quick] [--json FILE] [--only direct,weft-text,...] [--peers DIR]

Four fake replicas (one process) and the load generator share one core; the router under test has another to itself.
Requests are chat completions whose prompts share 75 % of their text with their group (64 groups). Latency at 8 and 64
connections is queueing, since the loop is closed and the router saturated; the open loop at 500 requests/s shows the
latency of a router with room. How much CPU others took meanwhile stands beside each figure: a try above --quiet is
repeated up to --tries times, and the quietest counts, whatever its result.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from load.machine import describe
from load.measure import TESTS, Bench, Plan, Report
from load.programs import HarnessError, compile_programs
from load.table import table
from load.targets import Target, all_targets


def main() -> int:
    """Measures what is asked for and prints the table. Returns the exit status."""
    arguments = _parse()
    targets = _chosen(all_targets(arguments.peers), arguments.only)
    plan = _plan(arguments)
    os.sched_setaffinity(0, {plan.load_core})
    record: Report = {"when": time.strftime("%F %T"), "machine": describe(), "seconds": plan.seconds, "targets": {}}
    with tempfile.TemporaryDirectory(prefix="proxy-benchmark-") as directory:
        compile_programs(Path(directory))
        for target in targets:
            _measure(Bench(plan, Path(directory)), target, record["targets"])
            if arguments.json:
                arguments.json.write_text(json.dumps(record, indent=1), encoding="utf-8")
    print("\n" + table(record["targets"]))
    return 0


def _measure(bench: Bench, target: Target, results: dict[str, Report]) -> None:
    if target.program is not None and not target.program.exists():
        print(f"{target.name}: not installed ({target.program}), skipped", flush=True)
        return
    print(f"{target.name} {target.version}".rstrip(), flush=True)
    try:
        with bench:
            results[target.name] = bench.measure(target, _print_result)
    except HarnessError as error:
        print(f"  not measured: {error}", flush=True)


def _print_result(test: str, result: Report) -> None:
    median = result["median"]
    rate = f"{median['chunks_per_s']:>9,.0f} chunks/s" if median["chunks_per_s"] else ""
    unit = "chunk" if median["cpu_us_per_chunk"] else "request"
    failures = sum(run["failures"] for run in result["runs"])
    print(
        f"  {test:<13}{median['requests_per_s']:>10,.0f} requests/s {rate:<18}"
        f" p50 {median['latency_us']['p50']:>9,.0f} µs  p99 {median['latency_us']['p99']:>9,.0f} µs"
        f"  {median[f'cpu_us_per_{unit}']:>8,.1f} µs CPU/{unit}  foreign {median['foreign_router_core']:.0%}"
        f" / {median['foreign_load_core']:.0%}" + (f"  {failures} FAILED: {_why(result)}" if failures else ""),
        flush=True,
    )


def _why(result: Report) -> str:
    return next(str(run["first_failure"]) for run in result["runs"] if run["failures"])


def _plan(arguments: argparse.Namespace) -> Plan:
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise HarnessError("two cores are needed: one for the router, one for the replicas and the load")
    seconds = arguments.seconds or (1.0 if arguments.quick else 4.0)
    repetitions = arguments.repetitions or (1 if arguments.quick else 3)
    chosen = tuple(test for test in TESTS if not arguments.tests or test.name in arguments.tests.split(","))
    return Plan(seconds, repetitions, arguments.tries, arguments.quiet, cores[0], cores[1], chosen)


def _chosen(targets: list[Target], only: str) -> Sequence[Target]:
    names = [name for name in only.split(",") if name]
    known = {target.name: target for target in targets}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise HarnessError(f"--only: no target {', '.join(unknown)}; there are {', '.join(known)}")
    return [known[name] for name in names] if names else targets


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one repetition of 1 s each")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures to FILE")
    parser.add_argument("--only", default="", metavar="NAMES", help="targets, comma-separated; default: all")
    parser.add_argument("--tests", default="", metavar="NAMES", help="tests, comma-separated; default: all")
    parser.add_argument("--peers", type=Path, default=Path("~/.cache/weft-peers").expanduser(), metavar="DIR")
    parser.add_argument("--seconds", type=float, help="of each run (4; quick: 1)")
    parser.add_argument("--repetitions", type=int, help="of each test (3; quick: 1)")
    parser.add_argument("--tries", type=int, default=3, help="for each repetition, until one is quiet")
    parser.add_argument("--quiet", type=float, default=0.1, help="foreign CPU, in cores, that still counts as quiet")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except HarnessError as problem:
        sys.exit(f"proxy.py: {problem}")
