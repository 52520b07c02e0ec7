"""What it costs to know programs: CPU per request with 10,000 of them alive, large declared graphs, memory, a flood.

    python benchmarks/programs.py [--quick] [--json FILE]

A request's bookkeeping is `observe`, `dispatched`, `started` and `ended` of the program table with the ranks and sums
that they keep, and one question for the rank and for what is left. Programs are those of the simulator's workload
``mixed``, each call hinted in full, or by its session only.

Of requests that nothing names, `Programs` is told what the router tells it, from their coming to their end: prompts of
1 KiB in text mode, three quarters of them shared in 64 groups. As many like them are remembered. The same requests go
through a whole router with eight replicas, as ``weft serve`` and as ``weft serve --programs`` make it.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import time
import tracemalloc
from collections import deque
from collections.abc import Callable
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
from load.machine import describe

from router.config import WeftConfig
from router.core.fleet import ModelRef
from router.core.flow import Waiting
from router.core.index.hashing import hash_blocks
from router.core.prefix import Chain
from router.core.programs.declare import read_declaration
from router.core.programs.lineage_rule import LineageLimits
from router.core.programs.table import ProgramTable, TableLimits
from router.core.programs.tracker import Programs
from router.core.router import Router
from router.core.types import (
    Decision,
    Health,
    Outcome,
    ProgramHint,
    Prompt,
    ReplicaSpec,
    Request,
    Ticket,
    Tokens,
    Usage,
)
from router.following import make_programs
from router.profiles import make_profiles
from router.queueing import make_flow
from sim.workloads.hints import Hint, make_hint
from sim.workloads.program import Program, Step
from sim.workloads.registry import make_workload

PROGRAMS = 10_000
TEMPLATES = 200
GRAPH_STEPS = 1_000
FLOOD = 100_000
GROUPS, SHARED_TOKENS, OWN_TOKENS = 64, 180, 60
REPLICAS, CAPACITY_BLOCKS = 8, 10_000
BATCH = 500
_NO_TOKENS = np.zeros(0, np.uint32)


def main() -> None:
    arguments = _parse()
    rounds = 3 if arguments.quick else 15
    record: dict[str, Any] = {"when": time.strftime("%F %T"), "machine": describe()}
    for hints in ("full", "session"):
        record[f"request_{hints}"] = request = per_request(hints, rounds)
        print(
            f"CPU per request, {PROGRAMS:,} programs alive, hints {hints}: median {request['p50_us']:.1f} µs, "
            f"99th percentile {request['p99_us']:.1f} µs over {request['requests']:,} requests"
        )
    record["request_unnamed"] = request = per_unnamed_request(rounds)
    print(
        f"CPU per request, nothing names it, {PROGRAMS:,} like it remembered: mean {request['mean_us']:.1f} µs, "
        f"{request['looked_at_us']:.1f} µs where an order looks at its step"
    )
    for follows in (False, True):
        record[f"routed_{'with' if follows else 'without'}_programs"] = routed = per_routed_request(follows, rounds)
        print(
            f"CPU per request in a router {'with' if follows else 'without'} --programs, nothing names it: median "
            f"{routed['p50_us']:.1f} µs, least {routed['least_us']:.1f} µs over batches of {BATCH}"
        )
    for name, document in (
        ("chain", chain()),
        ("layers of 10", layers(10)),
        ("layers of 16", layers(16)),
    ):
        record[f"declare_{name}"] = cost_ms = declare_ms(document, rounds)
        print(f"1,000 steps declared, {name}: {cost_ms:.1f} ms")
    record["memory"] = memory = memory_bytes()
    print(
        f"Memory: {memory['program']:,} bytes per program, {memory['step']:,} per step, "
        f"{memory['edge']:,} per edge of a declared graph"
    )
    record["flood"] = flood = flooded()
    print(
        f"{FLOOD:,} programs of one tenant into a table for {flood['max_programs']:,}: {flood['us']:.1f} µs each, "
        f"{flood['others_left']} of {flood['others']} programs of another tenant left"
    )
    if arguments.json:
        arguments.json.write_text(json.dumps(record, indent=1), encoding="utf-8")


def per_request(hints: str, rounds: int) -> dict[str, float]:
    """All programs under way at once: each round is one call of each."""
    table, calls = ProgramTable(), Calls(hints)
    now, times_us = 0.0, []
    gc.collect()
    gc.freeze()
    for number in range(rounds + 2):
        requests = calls.round()
        for request, usage in requests:
            now += 0.001
            began_ns = time.thread_time_ns()
            step = table.observe(request, now)
            program = step.program
            program.rank_s(step), program.remaining_path_s, program.remaining_work_s
            table.dispatched(step, 0, now)
            table.started(step, now + 0.5)
            table.ended(step, usage, Outcome.OK, now + 1.0)
            if number >= 2:
                times_us.append((time.thread_time_ns() - began_ns) / 1e3)
    if len(table) < 0.8 * PROGRAMS:
        raise SystemExit(f"only {len(table):,} programs are alive")
    p50_us, p99_us = np.quantile(times_us, (0.5, 0.99)).tolist()
    return {"p50_us": p50_us, "p99_us": p99_us, "mean_us": statistics.fmean(times_us), "requests": len(times_us)}


class Calls:
    """The calls of many programs in turn; one that has ended begins anew under another name."""

    def __init__(self, hints: str) -> None:
        self._templates = make_workload("mixed", 1, TEMPLATES)
        self._hint = make_hint(hints)
        self._at = [(number, 0) for number in range(PROGRAMS)]

    def round(self) -> list[tuple[Request, Usage]]:
        calls = []
        for slot, (number, position) in enumerate(self._at):
            program = self._templates[number % TEMPLATES]
            step = program.steps[position]
            calls.append((request_of(program, step, f"{number}", self._hint), Usage(step.prompt_tokens, 0, 200)))
            last = position + 1 == len(program.steps)
            self._at[slot] = (number + PROGRAMS, 0) if last else (number, position + 1)
        return calls


def request_of(program: Program, step: Step, name: str, hint: Hint) -> Request:
    request = Request(f"{name}/{step.name}", "m", Prompt(_NO_TOKENS), max_tokens=4096, streams=True)
    hint(request, program, step)
    request.session_id = name
    if request.program is not None:
        given = {field: getattr(request.program, field) for field in request.program.__slots__}
        request.program = ProgramHint(**{**given, "id": name})
    return request


def per_unnamed_request(rounds: int) -> dict[str, float]:
    """The median over rounds of as many requests as programs are remembered: each makes room for itself."""
    unseen, looked_at = _unnamed_us(rounds, looks=False), _unnamed_us(rounds, looks=True)
    return {"mean_us": unseen, "looked_at_us": looked_at, "requests": rounds * PROGRAMS}


def _unnamed_us(rounds: int, looks: bool) -> float:
    rng = np.random.default_rng(1)
    heads = _heads(rng)
    programs = Programs(TableLimits(max_programs=PROGRAMS), LineageLimits(max_programs=PROGRAMS))
    model, decision, usage = ModelRef("m"), Decision(ReplicaSpec("r", "http://r"), 0), Usage(256, 0, 16)

    def come(number: int) -> Waiting:
        tokens = _tokens(heads, number, rng)
        request = Request(f"{number}", "m", Prompt(tokens, exact=False), max_tokens=16, streams=True)
        chain = Chain(len(tokens), False, {16: hash_blocks(tokens, 16, 0)})
        return Waiting(Ticket(request, 0.0, decision), model, chain, number, lambda _: 0)

    def follow(waiting: Waiting, now: float) -> None:
        programs.admit(waiting, now)
        programs.submitted(waiting, now)
        if looks and waiting.step is None:
            raise SystemExit("a request without a step")
        programs.dispatched(waiting, now)
        programs.started(waiting.ticket, now)
        programs.ended(waiting.ticket, usage, Outcome.OK, now)
        programs.expire(now)

    # Far enough from each other that their common heads show.
    for number in range(20 * GROUPS):
        follow(come(number), float(number))
    now, means_us = 1e4, []
    for _ in range(rounds + 1):
        requests = [come(number) for number in range(PROGRAMS)]
        gc.collect()
        began_ns = time.thread_time_ns()
        for waiting in requests:
            now += 0.0001
            follow(waiting, now)
        means_us.append((time.thread_time_ns() - began_ns) / 1e3 / PROGRAMS)
    return statistics.median(means_us[1:])


def per_routed_request(follows: bool, rounds: int) -> dict[str, float]:
    """From its submission to its end, 64 others in flight, when the KV memory is full of those before."""
    rng = np.random.default_rng(1)
    heads, usage = _heads(rng), Usage(256, 0, 16)
    config = WeftConfig.model_validate({"programs": {"enabled": follows}})
    router = Router(make_profiles({}), seed=1, flow=make_flow(config), programs=make_programs(config))
    for number in range(REPLICAS):
        spec = ReplicaSpec(f"r{number}", f"http://r{number}", models=("m",), capacity_blocks=CAPACITY_BLOCKS)
        router.on_replica(spec, 0.0)
        router.on_health(spec.name, Health.HEALTHY, 0.0)
    in_flight: deque[Ticket] = deque()

    def serve(requests: list[Request], now: float, apart_s: float) -> None:
        for request in requests:
            now += apart_s
            in_flight.append(router.submit(request, now))
            router.poll(now)
            router.next_wakeup()
            if len(in_flight) > 64:
                ticket = in_flight.popleft()
                router.on_response_start(ticket, now)
                router.on_response_end(ticket, usage, Outcome.OK, now)

    numbers = count()

    def some(amount: int) -> list[Request]:
        return [
            Request(f"{number}", "m", Prompt(_tokens(heads, number, rng), exact=False), max_tokens=16, streams=True)
            for number in islice(numbers, amount)
        ]

    # Far enough from each other that their common heads show.
    serve(some(20 * GROUPS), 0.0, 1.0)
    for _ in range(40):
        serve(some(1_000), 1e4, 1e-4)
    means_us = []
    for batch in range(10 * rounds):
        requests = some(BATCH)
        gc.collect()
        began_ns = time.thread_time_ns()
        serve(requests, 2e4 + batch, 1e-4)
        means_us.append((time.thread_time_ns() - began_ns) / 1e3 / BATCH)
    return {"p50_us": statistics.median(means_us), "least_us": min(means_us), "requests": BATCH * len(means_us)}


def _heads(rng: np.random.Generator) -> Tokens:
    return rng.integers(0, 1 << 32, (GROUPS, SHARED_TOKENS), dtype=np.uint32)


def _tokens(heads: Tokens, number: int, rng: np.random.Generator) -> Tokens:
    return np.concatenate([heads[number % GROUPS], rng.integers(0, 1 << 32, OWN_TOKENS, dtype=np.uint32)])


def declare_ms(document: dict[str, Any], rounds: int) -> float:
    """From parsed JSON to a graph with all ranks."""

    def declare(table: ProgramTable) -> None:
        table.declare(("t", "p"), read_declaration(document), 0.0)

    return statistics.median(_timed_ms(declare, ProgramTable()) for _ in range(max(rounds, 5)))


def chain() -> dict[str, Any]:
    return {"steps": [{"name": f"s{i}", "after": [f"s{i - 1}"] if i else []} for i in range(GRAPH_STEPS)]}


def layers(width: int) -> dict[str, Any]:
    """Each step follows all of the layer before."""
    return {
        "steps": [
            {"name": f"s{i}", "after": [f"s{j}" for j in range(i - i % width - width, i - i % width) if j >= 0]}
            for i in range(GRAPH_STEPS)
        ]
    }


def memory_bytes() -> dict[str, int]:
    few, many = _memory(2, 1_000), _memory(52, 1_000)
    step = (many - few) // 50
    declared = _memory_of(lambda table: table.declare(("t", "p"), read_declaration(layers(10)), 0.0))
    chained = _memory_of(lambda table: table.declare(("t", "p"), read_declaration(chain()), 0.0))
    return {"program": few - 2 * step, "step": step, "edge": (declared - chained) // 9_000}


def _memory(steps: int, programs: int) -> int:
    def fill(table: ProgramTable) -> None:
        for number in range(programs):
            for turn in range(steps):
                after = (f"turn-{turn - 1}",) if turn else ()
                hint = ProgramHint(str(number), f"turn-{turn}", after, kind="agent", remaining_steps=steps - turn)
                step = table.observe(Request(f"{number}/{turn}", "m", program=hint, streams=True), float(turn))
                table.dispatched(step, 0, turn + 0.25)
                table.started(step, turn + 0.5)
                table.ended(step, Usage(1000, 0, 100), Outcome.OK, turn + 0.75)

    return _memory_of(fill) // programs


def _memory_of(fill: Callable[[ProgramTable], object]) -> int:
    table = ProgramTable()
    gc.collect()
    tracemalloc.start()
    fill(table)
    gc.collect()
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return held


def flooded() -> dict[str, float]:
    max_programs, others = 20_000, 1_000
    table = ProgramTable(limits=TableLimits(max_programs=max_programs))
    for number in range(others):
        table.observe(Request(f"{number}", "m", tenant="quiet", session_id=f"{number}"), 0.0)
    began_ns = time.thread_time_ns()
    for number in range(FLOOD):
        table.observe(Request(f"{number}", "m", tenant="loud", session_id=f"{number}"), 1.0)
    each_us = (time.thread_time_ns() - began_ns) / 1e3 / FLOOD
    left = sum(table.get(("quiet", f"{number}")) is not None for number in range(others))
    return {"max_programs": max_programs, "us": each_us, "others": others, "others_left": left}


def _timed_ms(work: Callable[[ProgramTable], None], table: ProgramTable) -> float:
    began_ns = time.thread_time_ns()
    work(table)
    return (time.thread_time_ns() - began_ns) / 1e6


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    return parser.parse_args()


if __name__ == "__main__":
    main()
