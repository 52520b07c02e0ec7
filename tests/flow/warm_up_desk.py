"""A router that follows programs, replicas that forget what nobody confirms within 5 s, and warm-ups; for tests."""

from __future__ import annotations

from itertools import count

import numpy as np

from flow.warm_ups.limits import WarmUpLimits
from flow.warm_ups.warm_up import WarmUp
from flow.warm_ups.warm_ups import Orders, WarmUps
from router.core.flow import Fcfs, Flow, Gate, Order
from router.core.index.batch import KvBatch
from router.core.index.hashing import chain_seed
from router.core.programs.declare import Declaration, DeclaredStep
from router.core.programs.tracker import Programs
from router.core.router import Router
from router.core.types import Health, Outcome, ProgramHint, Prompt, ReplicaSpec, Request, Ticket, Usage
from router.profiles import make_profiles

BLOCK = 16


def tokens_of(name: str, size: int) -> Prompt:
    """Equal names have equal tokens from the start."""
    seed = int.from_bytes(name.encode(), "little") % 2**32
    return Prompt(np.random.default_rng(seed).integers(0, 50_000, size).astype(np.uint32))


class WarmUpDesk:
    """Its shell: calls leave at once where they can, and are kept."""

    def __init__(
        self, replicas: int = 1, gate: Gate | None = None, order: Order | None = None, **limits: float
    ) -> None:
        self.warm_ups = WarmUps(WarmUpLimits(**limits))  # type: ignore[arg-type]
        flow = Flow(order or Fcfs(), gate, watchers=(self.warm_ups,))
        self.router = Router(make_profiles({}, "default"), seed=1, flow=flow, programs=Programs())
        self.warm_ups.router = self.router
        self.now = 1000.0
        self._numbers = count()
        for number in range(replicas):
            name = f"r{number}"
            spec = ReplicaSpec(name, f"http://{name}", models=("m",), reports_events=True, capacity_blocks=100_000)
            self.router.on_replica(spec, self.now)
            self.router.on_health(name, Health.HEALTHY, self.now)

    def declare(self, program: str, *steps: tuple[str, float], tenant: str = "t") -> None:
        """Steps one after the other, each with the seconds of the tool before it."""
        before: tuple[str, ...] = ()
        declared = []
        for name, tool_s in steps:
            declared.append(DeclaredStep(name, after=before, tool_ms=tool_s * 1000.0))
            before = (name,)
        assert self.router.programs is not None
        self.router.programs.declare((tenant, program), Declaration(tuple(declared)), self.now)

    def call(
        self, program: str, tokens: int = 4096, *, tenant: str = "t", keeps: bool = True, text: str = "", **hint: object
    ) -> Ticket:
        prompt = tokens_of(text or f"{tenant}/{program}", tokens)
        told = ProgramHint(program, **hint)  # type: ignore[arg-type]
        request = Request(str(next(self._numbers)), "m", prompt, tenant=tenant, program=told, streams=True)
        ticket = self.router.submit(request, self.now)
        self.router.poll(self.now)
        if keeps and ticket.decision is not None:
            self.warm_ups.keep(ticket, f"body of {program}", 1000)
        return ticket

    def end(self, ticket: Ticket, cached_tokens: int | None = None, outcome: Outcome = Outcome.OK) -> None:
        usage = Usage(ticket.request.prompt_tokens, cached_tokens, 10)
        self.router.on_response_end(ticket, usage, outcome, self.now)

    def over(self, warm_up: WarmUp, outcome: Outcome = Outcome.OK, cached_tokens: int = 0) -> None:
        usage = Usage(warm_up.ticket.request.prompt_tokens, cached_tokens, 1) if outcome is Outcome.OK else None
        self.warm_ups.over(warm_up, usage, outcome, self.now)

    def held(self, replica: str, prompt: Prompt) -> None:
        """The replica tells that it holds all full blocks of a prompt."""
        blocks = len(prompt) // BLOCK
        hashes = np.arange(1, blocks + 1, dtype=np.uint64)
        tokens = prompt.token_ids[: blocks * BLOCK]
        stored = KvBatch.stored(hashes, tokens, block_size_tokens=BLOCK, seed=chain_seed("m"))
        self.router.on_kv_events(replica, stored, self.now)

    def poll(self) -> Orders:
        self.router.poll(self.now)
        return self.warm_ups.poll(self.now)

    def sent_within(self, seconds: float) -> list[tuple[float, WarmUp]]:
        """Warm-ups with the seconds until they were sent; polled whenever it is asked for."""
        sent, end_s, began_s = [], self.now + seconds, self.now
        while (wakeup_s := self.warm_ups.next_wakeup()) is not None and wakeup_s <= end_s:
            self.now = max(self.now, wakeup_s)
            sent += [(self.now - began_s, each) for each in self.poll().send]
        self.now = end_s
        return sent

    def away(self, program: str = "p", tool_s: float = 20.0, tokens: int = 4096, tenant: str = "t") -> None:
        """A program whose first call is over, with one more declared after a tool."""
        self.declare(program, ("plan", 0.0), ("act", tool_s), tenant=tenant)
        self.end(self.call(program, tokens, step="plan", tenant=tenant))

    @property
    def results(self) -> dict[str, int]:
        return {str(result): number for result, number in self.warm_ups.stats.results.items() if number}
