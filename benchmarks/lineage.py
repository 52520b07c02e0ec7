"""Prefix lineage without any id: what it puts together, what it costs.

    python benchmarks/lineage.py [--traces DIR] [--programs N] [--live N] [--blocks 16,64] [--seeds 1,2] [--only NAMES]
    python benchmarks/lineage.py --cost

Programs of each workload arrive at random, about ``--live`` at a time; a call takes 50 µs for each prompt token that
its agent did not send before, and 17 ms for each token of the answer. All requests of all programs go through `Lineage`
in the order of their arrival, as of one tenant and without any id:

- precision: share of the pairs of requests put together that are of one program;
- recall: share of the pairs of one program that were put together, and ``agents``: of one agent or sub-agent;
- reach: the recall of one who knows all prompts of the run in advance, and so which blocks are a single program's;
- parents: share of the requests of which a step that they follow was named, or rightly none.

``react-nested`` is ``react`` with the same tool definitions before different system prompts. ``--cost`` measures calls
of 100,000 tokens with 10,000 live programs, in CPU time, and the longest pause when 100,000 programs of one short call,
or one of 4,096 calls, have been idle for long.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from router.core.programs.lineage import Lineage
from router.core.programs.lineage_rule import Kin, Relation
from router.core.programs.lineage_trail import Trail, trail_of
from router.core.types import Hashes, Prompt
from sim.cluster.tokens import Renderer
from sim.workloads.arrivals import Poisson, arrange
from sim.workloads.program import Context, Part, Program
from sim.workloads.registry import make_workload
from sim.workloads.traces import load_trace

GENERATED = ("react", "react-nested", "tot", "swarm", "pipeline", "mixed", "chat", "uniform", "shared-prefix")
TRACES = {
    "miniswe": ("miniswe_text.jsonl.gz", "text"),
    "taubench": ("taubench_text.jsonl.gz", "text"),
    "weka": ("weka_cc_dev.jsonl.gz", "weka"),
}
PREFILL_S, DECODE_S = 50e-6, 17e-3


@dataclass(slots=True)
class Sent:
    """One request, and the truth about it."""

    at_s: float
    program: str
    agent: str
    step: str
    after: tuple[str, ...]
    trail: Trail

    @property
    def hashes(self) -> Hashes:
        return self.trail.hashes


def sent(programs: Iterable[Program], block_size_tokens: int) -> list[Sent]:
    requests = [each for program in programs for each in _sent(program, block_size_tokens)]
    return sorted(requests, key=lambda each: each.at_s)


def _sent(program: Program, block_size_tokens: int) -> Iterator[Sent]:
    renderer = Renderer(block_size_tokens)
    ends_s: dict[str, float] = {}
    known_tokens: Counter[str] = Counter()
    for step in program.steps:
        tokens, hashes = renderer.render(step)
        prompt_tokens = step.prompt_tokens
        at_s = max((ends_s[name] for name in step.after), default=program.arrival_s) + step.wait_s
        new_tokens = max(prompt_tokens - known_tokens[step.agent], 0)
        ends_s[step.name] = at_s + PREFILL_S * new_tokens + DECODE_S * step.output_tokens
        known_tokens[step.agent] = prompt_tokens
        full = prompt_tokens // block_size_tokens
        trail = trail_of(Prompt(tokens[:prompt_tokens]), hashes[:full].copy(), block_size_tokens, "", "")
        yield Sent(at_s, program.id, step.agent, step.name, step.after, trail)


def follow(requests: Sequence[Sent], lineage: Lineage) -> list[Kin]:
    return [lineage.remember(each.trail, each.at_s) for each in requests]


def _pairs(labels: Iterable[Hashable]) -> int:
    return sum(count * (count - 1) // 2 for count in Counter(labels).values())


@dataclass(slots=True)
class Score:
    requests: int
    programs: int
    inferred: int
    precision: float
    recall: float
    agents: float
    parents: float
    reach: float
    relations: dict[str, int]


def score(requests: Sequence[Sent], kins: Sequence[Kin]) -> Score:
    inferred = [kin.program for kin in kins]
    programs = [each.program for each in requests]
    agents = [(each.program, each.agent) for each in requests]
    together = _pairs(inferred)
    right = _pairs(zip(inferred, programs, strict=True))
    names = {
        (kin.program, kin.step): each
        for kin, each in zip(kins, requests, strict=True)
        if kin.relation is not Relation.REPEAT
    }
    parents = 0
    for kin, each in zip(kins, requests, strict=True):
        parent = names.get((kin.program, kin.parent))
        if parent is None:
            parents += not each.after
        else:
            parents += parent.program == each.program and parent.step in each.after
    reach = _own_openings(requests)
    return Score(
        len(requests),
        len(set(programs)),
        len(set(inferred)),
        right / together if together else 1.0,
        right / _pairs(programs) if _pairs(programs) else 1.0,
        _pairs(zip(inferred, agents, strict=True)) / _pairs(agents) if _pairs(agents) else 1.0,
        parents / len(requests),
        _pairs(zip(reach, programs, strict=True)) / _pairs(programs) if _pairs(programs) else 1.0,
        {str(relation): count for relation, count in Counter(kin.relation for kin in kins).items()},
    )


def _own_openings(requests: Sequence[Sent]) -> list[int]:
    """For each request the hash of its first block that no other program has; a number of its own if there is none."""
    held: dict[str, list[Hashes]] = {}
    for each in requests:
        held.setdefault(each.program, []).append(each.hashes)
    of_programs = [np.unique(np.concatenate(hashes)) for hashes in held.values()]
    blocks, counts = np.unique(np.concatenate(of_programs), return_counts=True)
    common = blocks[counts > 1]
    openings = []
    for number, each in enumerate(requests):
        depth = int(np.searchsorted(~np.isin(each.hashes, common), True))
        openings.append(int(each.hashes[depth]) if depth < len(each.hashes) else number)
    return openings


def programs_of(name: str, count: int, live: float, seed: int, traces: Path) -> list[Program]:
    if name in TRACES:
        file, trace_format = TRACES[name]
        programs = load_trace(traces / file, trace_format).programs
        programs = programs[seed % 3 :: max(1, len(programs) // count)][:count] if len(programs) > count else programs
    else:
        programs = make_workload(name.removesuffix("-nested"), seed, count, tenants=1)
        if name.endswith("-nested"):
            programs = [_with_equal_tools(program) for program in programs]
    length_s = float(np.mean([_length_s(program) for program in programs]))
    return arrange(programs, Poisson(live / max(length_s, 1.0)), seed)


def _with_equal_tools(program: Program) -> Program:
    """All agents have the same tool definitions, and system prompts of their own after them."""
    tools = Part(Context.TOOLS, -1, 12_000)
    steps = [
        replace(step, parts=tuple(tools if part.context is Context.TOOLS else part for part in step.parts))
        for step in program.steps
    ]
    return replace(program, steps=tuple(steps))


def _length_s(program: Program) -> float:
    ends_s: dict[str, float] = {}
    for step in program.steps:
        start_s = max((ends_s[name] for name in step.after), default=0.0) + step.wait_s
        ends_s[step.name] = start_s + DECODE_S * step.output_tokens
    return max(ends_s.values(), default=0.0)


HEADS, HEAD_BLOCKS, PROMPT_BLOCKS, TURN_BLOCKS = 100, 1500, 6250, 30
"""Of the measured prompts: 24,000 tokens of tool definitions and system prompts, 100,000 in all, 500 more each turn."""


def costs(programs: int) -> None:
    lineage, rng = Lineage(), np.random.default_rng(1)
    heads = rng.integers(1, 1 << 64, (HEADS, HEAD_BLOCKS), dtype=np.uint64)
    tail = Prompt(np.arange(7, dtype=np.uint32))

    def trail(program: int, turn: int, lost_blocks: int = 0) -> Trail:
        blocks = PROMPT_BLOCKS - HEAD_BLOCKS + TURN_BLOCKS * turn
        own = np.random.default_rng([7, program]).integers(1, 1 << 64, blocks, dtype=np.uint64)
        own[blocks - lost_blocks :] += np.uint64(turn)
        hashes = np.concatenate([heads[program % HEADS], own])
        return trail_of(tail, hashes[:0], 16, "", "")._replace(hashes=hashes, exact=int(hashes[-1]) ^ 1)

    def measured(what: str, trails: Iterable[Trail], start_s: float) -> None:
        times, relations = [], Counter[str]()
        for number, each in enumerate(trails):
            began = time.thread_time()
            kin = lineage.remember(each, start_s + number)
            times.append(time.thread_time() - began)
            relations[kin.relation] += 1
        us = np.array(times) * 1e6
        print(
            f"{what:24} {np.mean(us):6.1f} us mean, {np.median(us):6.1f} median, {np.percentile(us, 99):6.1f} p99"
            f"   {dict(relations)}"
        )

    order = rng.permutation(programs).tolist()
    before = _resident_bytes()
    measured("first prompts", (trail(program, 0) for program in range(programs)), 0.0)
    measured("next turns", (trail(program, 1) for program in order), 1e4)
    measured("next turns", (trail(program, 2) for program in order), 2e4)
    measured("edited, 1,000 blocks lost", (trail(program, 3, 1000) for program in order), 3e4)
    measured("the same once more", (trail(program, 3, 1000) for program in order), 4e4)
    used = _resident_bytes() - before
    estimated = lineage.bytes / 2**20
    print(f"{len(lineage)} programs, {lineage.marks} marks, {used / 2**20:.0f} MiB, {estimated:.0f} MiB estimated")
    prompt, hashes = Prompt(np.arange(100_007, dtype=np.uint32)), trail(0, 0).hashes
    began = time.thread_time()
    for _ in range(10_000):
        trail_of(prompt, hashes, 16, "tenant", "model")
    print(f"trail_of {(time.thread_time() - began) * 100:.1f} us")


IDLE_PROGRAMS, LONG_PROGRAM_CALLS = 100_000, 4096


def pauses() -> None:
    """How long `Lineage.expire` takes at most, called until nothing is left."""
    rng = np.random.default_rng(1)
    tail = Prompt(np.arange(7, dtype=np.uint32))
    head, far = rng.integers(1, 1 << 64, (2, LONG_PROGRAM_CALLS + 64), dtype=np.uint64)

    def fill(lineage: Lineage, trails: Iterable[Hashes]) -> None:
        for number, hashes in enumerate(trails):
            trail = trail_of(tail, hashes[:0], 16, "", "")._replace(hashes=hashes, exact=int(hashes[-1]) ^ 1)
            lineage.remember(trail, float(number))

    short = (np.concatenate([head[:48], rng.integers(1, 1 << 64, 16, dtype=np.uint64)]) for _ in range(IDLE_PROGRAMS))
    long = (far[: 64 + call] for call in range(LONG_PROGRAM_CALLS))
    for what, trails in ((f"{IDLE_PROGRAMS:,} programs", short), (f"a program of {LONG_PROGRAM_CALLS:,} calls", long)):
        lineage, times, marks = Lineage(), [], 1
        fill(lineage, trails)
        while marks:
            began = time.thread_time()
            lineage.expire(1e9)
            times.append(time.thread_time() - began)
            marks = lineage.marks
        longest_ms, all_ms = 1e3 * max(times), 1e3 * sum(times)
        print(f"{what} idle at once: {len(times):,} calls of expire, the longest {longest_ms:.2f} of {all_ms:.0f} ms")


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--traces", type=Path, default=Path("../shared/traces"))
    parser.add_argument("--programs", type=int, default=40)
    parser.add_argument("--live", type=float, default=20.0)
    parser.add_argument("--blocks", default="16")
    parser.add_argument("--seeds", default="1")
    parser.add_argument("--only", default="")
    parser.add_argument("--cost", action="store_true")
    args = parser.parse_args()
    if args.cost:
        costs(10_000)
        pauses()
        return
    names = args.only.split(",") if args.only else [*GENERATED, *TRACES]
    print("workload        block seed requests programs inferred precision recall agents parents    reach  relations")
    for name in names:
        for seed in map(int, args.seeds.split(",")):
            for size in map(int, args.blocks.split(",")):
                began = time.monotonic()
                requests = sent(programs_of(name, args.programs, args.live, seed, args.traces), size)
                result = score(requests, follow(requests, Lineage()))
                relations = " ".join(f"{key}={count}" for key, count in sorted(result.relations.items()))
                print(
                    f"{name:15} {size:5} {seed:4} {result.requests:8} {result.programs:8} {result.inferred:8}"
                    f" {result.precision:9.3f} {result.recall:6.3f} {result.agents:6.3f} {result.parents:7.3f}"
                    f" {result.reach:8.3f}  {relations} ({time.monotonic() - began:.0f} s)",
                    flush=True,
                )


if __name__ == "__main__":
    main()
