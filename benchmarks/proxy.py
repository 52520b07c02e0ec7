"""Weft as a proxy, side by side with other routers: requests/s, added latency, SSE chunks/s, CPU, memory.

    python benchmarks/proxy.py [--quick] [--json FILE] [--only direct,weft-text,...] [--peers DIR]

Four fake replicas (one process) and the load generator share one core; the router under test has another to itself.
Requests are chat completions whose prompts share 75 % of their text with their group (64 groups). Latency at 8 and 64
connections is queueing, since the loop is closed and the router saturated; the open loop at 500 requests/s shows the
latency of a router with room. How much CPU others took meanwhile stands beside each figure: a try above --quiet is
repeated up to --tries times, and the quietest counts, whatever its result.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from pathlib import Path

from load.arguments import chosen, make_parser, plan_of
from load.machine import describe
from load.measure import TESTS, Bench, Report
from load.programs import HarnessError, compile_programs
from load.table import table
from load.targets import Target, all_targets


def main() -> int:
    """Measures what is asked for and prints the table. Returns the exit status."""
    parser = make_parser(__doc__)
    parser.add_argument("--peers", type=Path, default=Path("~/.cache/weft-peers").expanduser(), metavar="DIR")
    arguments = parser.parse_args()
    targets = chosen(all_targets(arguments.peers), arguments.only)
    plan = plan_of(arguments, TESTS)
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


if __name__ == "__main__":
    try:
        sys.exit(main())
    except HarnessError as problem:
        sys.exit(f"proxy.py: {problem}")
