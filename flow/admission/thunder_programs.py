"""Where ThunderAgent's programs are, and how much of each replica's KV memory they take up."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from math import exp2

from router.core.flow import ProgramKey, ReplicaMemory, Waiting

BUFFER_TOKENS = 100.0
"""Kept free for each program's next answer (``BUFFER_PER_PROGRAM``)."""


@dataclass(slots=True, eq=False)
class Program:
    key: ProgramKey
    replica: str = ""
    """Where its context counts. Empty while it is paused, or has not been let in yet."""
    paused: bool = False
    last_replica: str = ""
    marked: bool = False
    """To be paused when it next acts."""
    tokens: float = 0.0
    """Of its last prompt, and of the answer once that has ended."""
    requests: int = 0
    under_way: int = 0
    """Requests that are held, queue or run. While there are some the program reasons, else it acts."""
    acting_since_s: float = 0.0
    held: dict[Waiting, None] = field(default_factory=dict)

    @property
    def reasoning(self) -> bool:
        return self.under_way > 0

    @property
    def needed_tokens(self) -> float:
        return self.tokens + BUFFER_TOKENS


@dataclass(slots=True)
class _Active:
    """The programs of one replica, and sums over them."""

    programs: dict[ProgramKey, Program] = field(default_factory=dict)
    tokens: float = 0.0
    staying: int = 0
    """Those that are not marked."""
    staying_tokens: float = 0.0

    def count(self, program: Program, sign: int) -> None:
        self.tokens += sign * program.tokens
        if not program.marked:
            self.staying += sign
            self.staying_tokens += sign * program.tokens


_NOBODY = _Active()


class Programs:
    """All programs that are known, least recently used first."""

    def __init__(self, capacity: int, idle_s: float) -> None:
        """More than ``capacity``, or acting for ``idle_s``, are forgotten, but for those with requests under way."""
        self._capacity = capacity
        self._idle_s = idle_s
        self._known: dict[ProgramKey, Program] = {}
        self._on: dict[str, _Active] = {}
        """By replica."""
        self.paused: dict[ProgramKey, Program] = {}
        self._shared_tokens: dict[str, float] = {}
        """What reasoning programs of each replica have in common, by its last report."""

    def __len__(self) -> int:
        return len(self._known)

    def by_replica(self) -> Iterator[tuple[str, Collection[Program]]]:
        """Those that are active."""
        return ((name, active.programs.values()) for name, active in self._on.items())

    def use(self, key: ProgramKey) -> Program:
        """The program, made if it is not known."""
        program = self._known.pop(key, None) or Program(key)
        self._known[key] = program
        while len(self._known) > self._capacity:
            oldest = next((each for each in self._known.values() if not each.reasoning), None)
            if oldest is None:
                break
            self.forget(oldest)
        return program

    def find(self, key: ProgramKey) -> Program | None:
        return self._known.get(key)

    def forget(self, program: Program) -> None:
        self._leave(program)
        del self._known[program.key]

    def forget_idle(self, now: float) -> None:
        idle = [each for each in self._known.values() if not each.reasoning and self._is_idle(each, now)]
        for program in idle:
            self.forget(program)

    def place(self, program: Program, replica: str) -> None:
        """It is active on this replica from now on."""
        self._leave(program)
        program.replica = program.last_replica = replica
        active = self._on.setdefault(replica, _Active())
        active.programs[program.key] = program
        active.count(program, 1)

    def pause(self, program: Program) -> None:
        self._leave(program)
        program.paused = True
        self.paused[program.key] = program

    def resize(self, program: Program, tokens: float) -> None:
        """Its context is so long now."""
        self._change(program, tokens, program.marked)

    def mark(self, program: Program) -> None:
        self._change(program, program.tokens, True)

    def active_on(self, replica: str) -> Collection[Program]:
        return self._on.get(replica, _NOBODY).programs.values()

    def stray(self, replicas: Mapping[str, ReplicaMemory]) -> Iterator[Program]:
        """Active programs whose replica is gone."""
        for name in [name for name in self._on if name not in replicas]:
            yield from list(self._on[name].programs.values())

    def learn_shared(self, replicas: Iterable[ReplicaMemory]) -> None:
        for each in replicas:
            reasoning_tokens = sum(program.tokens for program in self.active_on(each.name) if program.reasoning)
            self._shared_tokens[each.name] = max(0.0, reasoning_tokens - each.used_tokens)

    def active_tokens(self, replica: str) -> float:
        return self._on.get(replica, _NOBODY).tokens

    def room_tokens(self, replica: ReplicaMemory) -> float:
        """Capacity left when those marked will be gone. Negative when there is too little."""
        active = self._on.get(replica.name, _NOBODY)
        return self._left(replica, active.staying_tokens, active.staying)

    def hopeful_room_tokens(self, replica: ReplicaMemory, now: float) -> float:
        """The same, if a program that acts comes back with probability 1/2 in each second that passes."""
        active = self.active_on(replica.name)
        tokens = sum(each.tokens * (1.0 if each.reasoning else exp2(each.acting_since_s - now)) for each in active)
        return self._left(replica, tokens, len(active))

    def _left(self, replica: ReplicaMemory, tokens: float, programs: int) -> float:
        shared_tokens = self._shared_tokens.get(replica.name, 0.0)
        return replica.capacity_tokens - (tokens - shared_tokens + programs * BUFFER_TOKENS)

    def _leave(self, program: Program) -> None:
        if program.replica:
            active = self._on[program.replica]
            active.count(program, -1)
            del active.programs[program.key]
            if not active.programs:
                del self._on[program.replica]
        self.paused.pop(program.key, None)
        program.replica, program.paused, program.marked = "", False, False

    def _change(self, program: Program, tokens: float, marked: bool) -> None:
        active = self._on.get(program.replica)
        if active is not None:
            active.count(program, -1)
        program.tokens, program.marked = tokens, marked
        if active is not None:
            active.count(program, 1)

    def _is_idle(self, program: Program, now: float) -> bool:
        return program.acting_since_s + self._idle_s <= now
