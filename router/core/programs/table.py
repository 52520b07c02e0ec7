"""All programs that are known: one per tenant and name, bounded, forgotten when they are over or idle.

Shells and orders hold on to the `Step` that `observe` returns and tell what becomes of it. A program that had to make
room for others may still have steps under way: what is told of them goes nowhere.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from router.core.programs import progress
from router.core.programs.declare import Declaration
from router.core.programs.estimate import Estimator
from router.core.programs.fair import FairTable, Key
from router.core.programs.graph import close, come
from router.core.programs.history import History
from router.core.programs.plan import plan
from router.core.programs.program import Program
from router.core.programs.step import Step
from router.core.programs.tally import Tally
from router.core.rates import FleetRates
from router.core.types import Outcome, Request, Usage

PROGRAM_BYTES = 2_300
STEP_BYTES = 900
EDGE_BYTES = 50
"""What ``benchmarks/programs.py`` measures, rounded up."""

SINGLE = "\N{NULL}single"
"""Class of programs that are one request, of which nothing says what it belongs to."""
_EXPIRED_AT_ONCE = 64


@dataclass(slots=True, frozen=True)
class TableLimits:
    """What the table may hold."""

    max_programs: int = 100_000
    max_steps: int = 4096
    """Of one program; the oldest that are over go first."""
    max_bytes: int = 512 << 20
    """Estimated."""
    idle_s: float = 3600.0
    """A program without open calls is forgotten after this."""
    linger_s: float = 60.0
    """A finished program can be looked at for so long, if there is room."""


@dataclass(slots=True)
class TableStats:
    """Counters since the start."""

    created: int = 0
    finished: int = 0
    """By a final step, or by `finish`."""
    expired: int = 0
    """Idle for too long."""
    evicted: int = 0
    """Made room for others while they were not finished."""
    dropped_steps: int = 0
    """Steps of long programs that made room for newer ones."""
    told: int = 0
    """What clients said of graphs, in programs that are gone ..."""
    contradicted: int = 0
    """... and what of it turned out to be wrong."""
    recomputed_tokens: int = 0
    """Prompt tokens that were computed although their program had sent them before."""


class ProgramTable:
    """Programs by (tenant, name). Times are seconds on the router's clock."""

    def __init__(
        self, rates: FleetRates | None = None, limits: TableLimits | None = None, history: History | None = None
    ) -> None:
        self.rates = rates or FleetRates()
        self.limits = limits or TableLimits()
        self.history = history or History()
        self.stats = TableStats()
        self.tally = Tally()
        self.estimator = Estimator(self.rates, self.history)
        self._programs: FairTable[Program] = FairTable(self.limits.max_programs, self.limits.max_bytes)
        self._finished: deque[tuple[float, Program]] = deque()

    def __len__(self) -> int:
        return len(self._programs)

    def __iter__(self) -> Iterator[Program]:
        """Least recently active first."""
        return iter(self._programs)

    @property
    def bytes(self) -> int:
        """Estimated."""
        return self._programs.bytes

    def get(self, key: Key) -> Program | None:
        return self._programs.get(key)

    def of(self, tenant: str) -> Iterator[Program]:
        """A tenant's programs, but for single requests; most recently active first."""
        return (program for program in self._programs.of(tenant) if program.kind != SINGLE)

    def observe(self, request: Request, now: float, *, is_told: bool = False) -> Step:
        """A request came: the step that it is, of a program that may be new, with all that the client says of it;
        ``is_told``: its history knows."""
        hint = request.program
        kind = SINGLE if not request.program_name else hint.kind if hint is not None else ""
        program = self._use(request.program_key, kind, now)
        if hint is not None:
            program.parent = hint.parent or program.parent
            program.priority = hint.priority or program.priority
            if hint.deadline_in_s is not None:
                # Clients that send the same header with every call mean the first one.
                deadline_s = now + hint.deadline_in_s
                program.deadline_s = min(deadline_s, program.deadline_s or deadline_s)
        step = come(program, request, self.estimator, now, is_told=is_told)
        if program.calls == 1 and not program.first_expected_s:
            program.first_expected_s = program.remaining_path_s
        if len(program.steps) > self.limits.max_steps:
            self._drop_steps(program, step)
        self._make_room(program)
        return step

    def dispatched(self, step: Step, cached_tokens: int, now: float) -> None:
        """It left for a replica that is expected to hold ``cached_tokens`` of its prompt."""
        progress.dispatched(step, cached_tokens, self.estimator, now)

    def started(self, step: Step, now: float) -> None:
        """Its first token came. Only to be told of streamed answers."""
        progress.started(step, self.estimator, now)

    def ended(self, step: Step, usage: Usage | None, outcome: Outcome, now: float, *, is_told: bool = False) -> None:
        """A dispatched step is over; ``is_told``: its history knows."""
        recomputed_tokens = step.program.recomputed_tokens
        progress.ended(step, usage, outcome, self.estimator, now, is_told=is_told)
        self.stats.recomputed_tokens += step.program.recomputed_tokens - recomputed_tokens
        self._quiet(step.program, now)

    def withdrawn(self, step: Step, now: float) -> None:
        """A step that waited will not leave: its client is gone, or it was refused."""
        progress.withdrawn(step, now)
        self._quiet(step.program, now)

    def declare(self, key: Key, declaration: Declaration, now: float) -> Program:
        """Enters a declared graph, of a program that may be new. Raises DeclarationError, and leaves things as they
        were, when it is too large together with the steps that came."""
        known = self.get(key)
        program = known or self._new(key, declaration.kind, now)
        self._class(program, declaration.kind)
        plan(program, declaration, self.limits.max_steps, self.estimator, now)
        if declaration.deadline_ms is not None:
            program.deadline_s = now + declaration.deadline_ms / 1000.0
        program.priority = declaration.priority or program.priority
        if known is None:
            self._enter(program)
        self._programs.use(key)
        program.finished_s = None
        self._make_room(program)
        return program

    def finish(self, key: Key, now: float) -> bool:
        """Forgets a program, and its steps, by its client's wish; calls that are open go on. False: it is not known."""
        program = self.get(key)
        if program is None:
            return False
        self.stats.finished += program.finished_s is None
        self._forget(program)
        return True

    def expire(self, now: float) -> int:
        """Forgets finished programs that nobody need look at any more, and idle ones, a few at a time: nobody should
        wait while thousands go. Returns how many were idle."""
        expired = 0
        for _ in range(_EXPIRED_AT_ONCE):
            if self._finished and self._finished[0][0] <= now - self.limits.linger_s:
                self._forget_finished()
                continue
            program = self._programs.oldest()
            if program is None or program.last_seen_s > now - self.limits.idle_s:
                break
            if program.open:
                program.last_seen_s = now
                self._programs.use(program.key)
            else:
                self._forget(program)
                expired += 1
        self.stats.expired += expired
        return expired

    def _use(self, key: Key, kind: str, now: float) -> Program:
        program = self.get(key)
        if program is None:
            program = self._new(key, kind, now)
            self._enter(program)
        else:
            self._programs.use(key)
            self._class(program, kind)
        program.last_seen_s = now
        program.finished_s = None
        return program

    def _new(self, key: Key, kind: str, now: float) -> Program:
        return Program(key, self.history.of(key[0], kind), now, now, kind=kind)

    def _class(self, program: Program, kind: str) -> None:
        """The last word on a program's class is right."""
        if kind and kind != program.kind:
            program.kind = kind
            program.history = self.history.of(program.key[0], kind)

    def _enter(self, program: Program) -> None:
        self._programs.put(program.key, program, PROGRAM_BYTES)
        self.stats.created += 1

    def _quiet(self, program: Program, now: float) -> None:
        """A call of the program is over: perhaps the program is."""
        if self.get(program.key) is not program:
            if not program.open:
                program.dissolve()
            return
        program.last_seen_s = now
        self._programs.use(program.key)
        if program.final and not program.open and program.finished_s is None:
            close(program)
            program.finished_s = now
            self.stats.finished += 1
            if program.kind == SINGLE:
                self._forget(program)
            else:
                self._finished.append((now, program))

    def _make_room(self, program: Program) -> None:
        """For a program that is new or has grown."""
        names_bytes = len(program.key[1]) + program.name_chars
        size_bytes = PROGRAM_BYTES + STEP_BYTES * len(program.steps) + EDGE_BYTES * program.edges + names_bytes
        self._programs.resize(program.key, size_bytes)
        while (key := self._programs.surplus(program.key[0])) is not None:
            if self._finished:
                self._forget_finished()
                continue
            evicted = self._programs.get(key)
            if evicted is None or evicted is program:
                return
            self._forget(evicted, evicted=True)
            self.stats.evicted += 1

    def _forget_finished(self) -> None:
        finished_s, program = self._finished.popleft()
        if program.finished_s == finished_s and self.get(program.key) is program:
            self._forget(program)

    def _forget(self, program: Program, evicted: bool = False) -> None:
        self._programs.pop(program.key)
        if not evicted and program.calls and program.kind != SINGLE:
            self.tally.over(program)
        self.stats.told += program.told
        self.stats.contradicted += program.contradicted
        if not program.open:
            program.dissolve()

    def _drop_steps(self, program: Program, newest: Step) -> None:
        """Half of the steps that are over, if these are many: so it costs little per step. What is open or expected
        stays; a step for which there is no room then is followed to its end, but not shown."""
        over = [step for step in program.steps.values() if step.state.over and step not in program.loose]
        dropped = over[: len(over) // 2] if 2 * len(over) >= self.limits.max_steps else [newest]
        for step in dropped:
            del program.steps[step.name]
            program.name_chars -= len(step.name)
        program.dropped_steps += len(dropped)
        self.stats.dropped_steps += len(dropped)
