"""What a run of the simulated cluster costs: CPU time, memory, and where the time goes.

    python benchmarks/simulator.py [--quick] [--profile] [--json FILE] [--traces DIR]

Replays two public traces on 8 replicas (llama-3.1-8b-1xh100) behind one router with the default profile: the Mooncake
conversation trace at its own times, and the WEKA Claude-Code programs, one started a minute. Each runs in a process of
its own, on one core where the system lets it; reading the trace and loading compiled kernels are not counted.
``--profile`` adds the share of each part of the program, which slows the run down two to three times.
"""

from __future__ import annotations

import argparse
import cProfile
import json
import os
import platform
import pstats
import resource
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from router.core.index.prefix_index import warm_up
from router.core.router import Router
from router.profiles import make_profiles
from sim.bench.measure import Row, measure
from sim.cluster import Cluster, ClusterConfig, Run
from sim.engine import load_profile
from sim.workloads.arrivals import Poisson, arrange
from sim.workloads.fit import fitting
from sim.workloads.program import Program
from sim.workloads.traces import load_trace

REPLICAS = 8
PROFILE = "llama-3.1-8b-1xh100"
TRACES = {"mooncake": "mooncake_conversation.jsonl.gz", "weka": "weka_cc_dev.jsonl.gz"}
GOALS_S = {"mooncake": 60, "weka": 120}
ROOT = Path(__file__).parent.parent
PARTS = ("sim/engine", "sim/cluster", "router/core/index", "router/core", "scorers")
"""A function belongs to the first of these that its path contains."""


def programs_of(trace: str, directory: Path, quick: bool) -> list[Program]:
    read = load_trace(directory / TRACES[trace], trace).programs
    programs, _ = fitting(read, load_profile(PROFILE).engine.max_model_len_tokens)
    if trace == "weka":
        programs = arrange(programs, Poisson(1 / 60), seed=0)
    return programs[: len(programs) // 8] if quick else programs


def run_trace(trace: str, directory: Path, quick: bool, profiled: bool) -> Row:
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    programs = programs_of(trace, directory, quick)
    warm_up()
    engine = load_profile(PROFILE).engine
    cluster = Cluster(ClusterConfig(engine, REPLICAS), lambda number: Router(make_profiles({}), seed=number))
    profiler = cProfile.Profile()
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    run = profiler.runcall(cluster.run, programs) if profiled else cluster.run(programs)
    row: Row = {
        "trace": trace,
        "cpu_s": round(time.process_time() - cpu_s, 1),
        "wall_s": round(time.perf_counter() - wall_s, 1),
        "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "decision_us": round(run.router_cost.decision_us, 1),
    }
    if profiled:
        row["shares"] = shares(profiler)
    return row | facts(run, measure(run, engine.step_time))


def facts(run: Run, measured: Row) -> Row:
    kept = ("requests", "programs", "prompt_tokens", "prefix_hit_rate", "recomputed_tokens", "utilisation")
    return {name: measured[name] for name in kept} | {"virtual_s": round(run.makespan_s)}


def shares(profiler: cProfile.Profile) -> dict[str, float]:
    """Of the run's time, the share of each part; library calls count where they are called from."""
    seconds: Counter[str] = Counter()
    for (path, _, _), (_, _, own_s, _, callers) in pstats.Stats(profiler).stats.items():  # type: ignore[attr-defined]
        if part := part_of(path):
            seconds[part] += own_s
            continue
        for (caller, _, _), (_, _, caller_s, _) in callers.items():
            seconds[part_of(caller) or "other"] += caller_s
    total = sum(seconds.values())
    return {part: round(own_s / total, 3) for part, own_s in seconds.most_common()}


def part_of(path: str) -> str | None:
    return next((part for part in PARTS if part in path), None)


def report(row: Row, quick: bool) -> None:
    goal = "" if quick else f" (goal {GOALS_S[str(row['trace'])]} s)"
    size = f"{row['requests']:,} requests of {row['programs']:,} programs, {row['prompt_tokens']:,} prompt tokens"
    print(f"{row['trace']:>9}: {size}, {row['virtual_s']:,} s of virtual time, hit rate {row['prefix_hit_rate']:.1%}")
    print(
        f"{'':>11}{row['cpu_s']} s CPU{goal}, {row['wall_s']} s wall, peak {row['peak_mib']:,} MiB, "
        f"router {row['decision_us']} us a decision"
    )
    for part, share in dict(row.get("shares", {})).items():  # type: ignore[call-overload]
        print(f"{'':>11}{share:6.1%}  {part}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="the first eighth of each trace")
    parser.add_argument("--profile", action="store_true", help="say where the time goes")
    parser.add_argument("--json", type=Path, help="write the figures there")
    parser.add_argument("--traces", type=Path, default=ROOT / "../shared/traces", help="directory of the trace files")
    arguments = parser.parse_args()
    rows = []
    for trace, name in TRACES.items():
        path = arguments.traces / name
        if not path.is_file():
            print(f"{trace:>9}: left out, there is no {path}; say where with --traces", file=sys.stderr)
            continue
        with ProcessPoolExecutor(1, get_context("spawn")) as process:
            row = process.submit(run_trace, trace, arguments.traces, arguments.quick, arguments.profile).result()
        report(row, arguments.quick)
        rows.append(row)
    if arguments.json:
        arguments.json.write_text(json.dumps({"machine": platform.processor() or platform.machine(), "rows": rows}))


if __name__ == "__main__":
    main()
