"""What it costs to wait: CPU per request of each order, by how many wait, and of each admission, by how much memory.

    python benchmarks/waiting.py [--quick] [--json FILE]

A request's way is that through the waiting room: it comes, everybody is asked who leaves, it ends, everybody is asked
again. Programs are those of the simulator's workload ``mixed``, hinted in full, each with one call at a time. What
following them costs is not counted here (benchmarks/programs.py), nor is the choice of a replica (decision.py).
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from load.machine import describe

from flow.registry import ADMISSIONS, ORDERS, make_admission, make_order
from router.core.fleet import ModelRef
from router.core.flow import Flow, ReplicaMemory, Waiting
from router.core.prefix import Chain
from router.core.programs.step import Step
from router.core.programs.table import ProgramTable
from router.core.types import Decision, Outcome, ProgramHint, Prompt, ReplicaSpec, Request, Ticket, Usage
from router.core.waiting_room import WaitingRoom
from sim.cluster.tokens import Renderer
from sim.workloads.hints import full_hint
from sim.workloads.program import Context
from sim.workloads.registry import make_workload

LIVE = 10_000
AT_TOOLS = 1_000
"""Programs between two calls, beside those whose calls wait or run."""
RUNNING = 256
WAITING = (0, 1_000, 10_000)
REPLICAS = 8
MEMORY_TOKENS = {"plentiful": 1e12, "short": 500_000.0}
"""Of each replica."""
TEMPLATES = 50
BLOCK_TOKENS = 16
ROUND_S = 0.01
ANSWER_TOKENS = 200
_SHARED = (Context.SYSTEM, Context.TOOLS)
_MODEL = ModelRef("m")
_TOKENS = np.zeros(1_000_000, np.uint32)


def main() -> None:
    arguments = _parse()
    rounds = 200 if arguments.quick else 2_000
    calls = Calls()
    record: dict[str, Any] = {"when": time.strftime("%F %T"), "machine": describe()}
    print("CPU per request in µs, while so many wait" + "".join(f"{waiting:>10,}" for waiting in WAITING))
    for name in _chosen(ORDERS, arguments.only):
        record[f"order {name}"] = costs = order_us(name, calls, rounds)
        print(f"  {name:39}" + "".join(f"{costs[waiting]:10.1f}" for waiting in WAITING), flush=True)
    print(f"CPU per request in µs, {LIVE:,} programs alive on {REPLICAS} replicas")
    for name in _chosen(("none", *ADMISSIONS), arguments.only):
        record[f"admission {name}"] = by_memory = admission_us(name, calls, rounds)
        for memory, (cost, held) in by_memory.items():
            print(f"  {name}, memory {memory}: {cost:.1f} with {held:,} requests held", flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(record, indent=1), encoding="utf-8")


def order_us(name: str, calls: Calls, rounds: int) -> dict[int, float]:
    """By how many wait."""
    costs = {}
    for waiting in WAITING:
        traffic = Traffic(Flow(make_order(name, {}, {})), calls, waiting + RUNNING + AT_TOOLS, lets_wait=waiting)
        costs[waiting] = traffic.cost_us(rounds)
    return costs


def admission_us(name: str, calls: Calls, rounds: int) -> dict[str, tuple[float, int]]:
    """With how many are held, by how much memory there is."""
    costs = {}
    for memory, tokens in MEMORY_TOKENS.items():
        flow = Flow(admission=make_admission(name, {}))
        traffic = Traffic(flow, calls, LIVE, memory_tokens=tokens)
        costs[memory] = traffic.cost_us(rounds, warm_up=LIVE), len(traffic.room)
    return costs


class Calls:
    """The calls of as many programs as one likes: copies of a few that share system prompts and tools."""

    def __init__(self) -> None:
        renderer = Renderer(BLOCK_TOKENS)
        self._templates = make_workload("mixed", 1, TEMPLATES)
        self._hashes = [
            [renderer.render(step)[1][: step.prompt_tokens // BLOCK_TOKENS] for step in program.steps]
            for program in self._templates
        ]
        self._hint = full_hint()

    def count(self, number: int) -> int:
        """Of one program."""
        return len(self._templates[number % TEMPLATES].steps)

    def make(self, number: int, position: int) -> tuple[Request, Chain]:
        program = self._templates[number % TEMPLATES]
        step, name = program.steps[position], str(number)
        request = Request(f"{name}/{step.name}", "m", Prompt(_TOKENS[: step.prompt_tokens]), streams=True)
        self._hint(request, program, step)
        if request.program is not None:
            given = {each: getattr(request.program, each) for each in request.program.__slots__}
            request.session_id, request.program = name, ProgramHint(**{**given, "id": name})
        hashes = self._hashes[number % TEMPLATES][position]
        shared_blocks = sum(part.tokens for part in step.parts if part.context in _SHARED) // BLOCK_TOKENS
        own = np.concatenate([hashes[:shared_blocks], hashes[shared_blocks:] ^ np.uint64(number)])
        return request, Chain(step.prompt_tokens, True, {BLOCK_TOKENS: own})


@dataclass(slots=True)
class Call:
    number: int
    """Of its program."""
    position: int
    step: Step


@dataclass(slots=True)
class Traffic:
    """A closed loop: as many programs as ever are alive, and the oldest call ends when the next one has come."""

    flow: Flow
    calls: Calls
    programs: int
    lets_wait: int = 0
    """Requests that find no room."""
    memory_tokens: float = 1e12
    room: WaitingRoom = field(init=False)
    _specs: dict[str, ReplicaSpec] = field(init=False)
    _table: ProgramTable = field(default_factory=ProgramTable)
    _at_tools: deque[tuple[int, int]] = field(init=False)
    """Programs between two calls, and which comes next."""
    _calls: dict[Ticket, Call] = field(default_factory=dict)
    _running: deque[Ticket] = field(default_factory=deque)
    _now: float = 0.0
    _submitted: int = 0
    _left: int = 0
    _cost_ns: int = 0

    def __post_init__(self) -> None:
        self._specs = {f"r{number}": ReplicaSpec(f"r{number}", "http://any") for number in range(REPLICAS)}
        memories = [ReplicaMemory(name, self.memory_tokens, 0.0) for name in self._specs]
        self.room = WaitingRoom(self.flow, self._try_to_leave, lambda: memories)
        self._at_tools = deque((number, 0) for number in range(self.programs))

    def cost_us(self, rounds: int, warm_up: int = 100) -> float:
        for _ in range(self.lets_wait + RUNNING):
            self._enter()
        self._leave()
        for _ in range(warm_up):
            self._round()
        gc.collect()
        gc.freeze()
        self._cost_ns, before = 0, self._submitted
        for _ in range(rounds):
            self._round()
        gc.unfreeze()
        return self._cost_ns / 1e3 / (self._submitted - before)

    def _round(self) -> None:
        self._now += ROUND_S
        if self._running and (len(self._running) > RUNNING or len(self._at_tools) <= AT_TOOLS):
            self._end(self._running.popleft())
        if len(self._at_tools) > AT_TOOLS or not self._running:
            self._enter()
            self._leave()

    def _enter(self) -> None:
        number, position = self._at_tools.popleft()
        request, chain = self.calls.make(number, position)
        waiting = Waiting(Ticket(request, self._now), _MODEL, chain, self._submitted, lambda _: 0)
        step = waiting.call = self._table.observe(request, self._now)
        self._calls[waiting.ticket] = Call(number, position, step)
        self._submitted += 1
        began_ns = time.thread_time_ns()
        self.room.enter(waiting, self._now)
        self._cost_ns += time.thread_time_ns() - began_ns

    def _leave(self) -> None:
        began_ns = time.thread_time_ns()
        left = self.room.leave(self._now)
        self._cost_ns += time.thread_time_ns() - began_ns
        for ticket in left:
            self._table.dispatched(self._calls[ticket].step, 0, self._now)
        self._running += left

    def _end(self, ticket: Ticket) -> None:
        call, usage = self._calls.pop(ticket), Usage(ticket.request.prompt_tokens, 0, ANSWER_TOKENS)
        self._table.ended(call.step, usage, Outcome.OK, self._now)
        began_ns = time.thread_time_ns()
        self.room.ended(ticket, usage, Outcome.OK, self._now)
        self._cost_ns += time.thread_time_ns() - began_ns
        self._leave()
        last = call.position + 1 == self.calls.count(call.number)
        self._at_tools.append((call.number + self.programs, 0) if last else (call.number, call.position + 1))

    def _try_to_leave(self, waiting: Waiting, now: float) -> bool:
        if self._submitted - self._left <= self.lets_wait:
            return False
        self._left += 1
        name = waiting.pinned or f"r{waiting.number % REPLICAS}"
        waiting.ticket.decision, waiting.ticket.dispatched_s = Decision(self._specs[name], 0), now
        return True


def _chosen(names: Iterable[str], part: str | None) -> list[str]:
    return [name for name in names if part is None or part in name]


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--only", help="only orders and admissions with this in their names")
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    return parser.parse_args()


if __name__ == "__main__":
    main()
