"""Prefix lineage: which program a call belongs to when nothing names it, from what its prompt begins with.

Only prompts are known, and of them the hashes of their full blocks: that a prompt holds an earlier one and its answer
shows in its beginning with that one's blocks. They leave marks (`lineage_marks`); `lineage_rule` says what it means to
meet one. A program that is forgotten takes its marks along, so what was common is so among live programs.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np
import xxhash
from numpy.typing import NDArray

from router.core.programs.fair import FairTable, Key
from router.core.programs.lineage_marks import Found, answer, compiled, make_room, new_marks, scratch
from router.core.programs.lineage_rule import Kin, KnownProgram, LineageLimits, Relation, entered, joined, repeated
from router.core.programs.lineage_trail import Trail
from router.core.programs.newcomer import Newcomer

PROGRAM_BYTES = 1600
STEP_BYTES = 350
MARK_BYTES = 26
"""Measured by ``benchmarks/lineage.py``."""

_PREFIX = "≈"
"""Names that clients send are ASCII, so none is like one of these."""
_NUMBERS = (1 << 32) - 1
_NEW = Kin(Relation.NEW)
_EXPIRED_AT_ONCE = 64
_CLEARED_AT_ONCE = 256
"""Steps whose marks are taken away; those of one take 1 to 4 µs."""
_CLEARED_FOR_ONE = 8
"""... with each prompt that comes and leaves the marks of one step."""


@dataclass(slots=True)
class LineageStats:
    """Counters since the start."""

    found: dict[Relation, int] = field(default_factory=lambda: dict.fromkeys(Relation, 0))
    """Prompts remembered, by what they were."""
    expired: int = 0
    """Programs forgotten because they were idle."""
    evicted: int = 0
    """Programs forgotten to make room; a tenant that holds most loses its own first."""
    unmarked: int = 0
    """Prompts not remembered because their program has too many."""


class Lineage:
    """Programs by what their prompts begin with. Sans-IO; times are seconds on the router's clock."""

    def __init__(self, limits: LineageLimits | None = None) -> None:
        self.limits = limits or LineageLimits()
        self.stats = LineageStats()
        self._kernels = compiled()
        self._marks = new_marks()
        self._answer: NDArray[np.int64] = answer()
        self._laid = scratch()
        self._programs: FairTable[KnownProgram] = FairTable(self.limits.max_programs, self.limits.max_bytes)
        self._numbered: dict[int, KnownProgram] = {}
        self._last_number = 0
        self._gone: deque[KnownProgram] = deque()
        """Forgotten programs whose marks are not all taken away yet."""

    def __len__(self) -> int:
        """Programs that are remembered."""
        return len(self._programs)

    @property
    def marks(self) -> int:
        """Marks of all programs, and of some that were forgotten a moment ago."""
        return self._marks.table.size

    @property
    def bytes(self) -> int:
        """Estimated."""
        return self._programs.bytes

    def find(self, trail: Trail, now: float) -> Kin:
        """Where a prompt belongs, without entering it."""
        return self._find(trail, now)[0]

    def remember(self, trail: Trail, now: float) -> Kin:
        """Where a prompt belongs that came now, and enters it."""
        kin, found, program = self._find(trail, now)
        self.stats.found[kin.relation] += 1
        if program is None:
            program = self._new(trail, now)
        else:
            program.seen_s = now
            self._programs.use(program.key)
        if kin.relation is Relation.REPEAT:
            program.last, program.repeats = kin.step, kin.repeats
            program.steps[kin.step - 1].seen_s = now
            return kin
        return self._enter(program, trail, kin, found, now)

    def expire(self, now: float) -> int:
        """Forgets programs that have been idle for long, a few at a time: nobody should wait while thousands go.
        Returns how many."""
        expired = 0
        while expired < _EXPIRED_AT_ONCE:
            program = self._programs.oldest()
            if program is None or program.seen_s > now - self.limits.idle_s:
                break
            self._forget(program.key)
            expired += 1
        self._clear(_CLEARED_AT_ONCE)
        self.stats.expired += expired
        return expired

    def keep_first(self, key: Key, first: Newcomer) -> None:
        """Of a program that was entered just now, for as long as it is remembered."""
        program = self._programs.get(key)
        if program is not None:
            program.first = first

    def take_first(self, key: Key) -> Newcomer | None:
        """What was kept, once. None: nothing was."""
        program = self._programs.get(key)
        if program is None:
            return None
        first, program.first = program.first, None
        return first

    def forget(self, tenant: str, name: str) -> bool:
        """The program is over. False: it is not known."""
        program = self._programs.get((tenant, name))
        if program is None:
            return False
        self._forget(program.key)
        self._clear(_CLEARED_AT_ONCE)
        return True

    def _find(self, trail: Trail, now: float) -> tuple[Kin, Found, KnownProgram | None]:
        self._kernels.find_marks(self._marks, trail.hashes, trail.scope, trail.exact, self._answer)
        found = Found(*self._answer.tolist())
        program = self._owner(found.exact_owner or found.owner, trail.tenant)
        if program is not None:
            if found.exact_owner:
                kin = repeated(program, found, now, self.limits)
            else:
                kin = joined(program, found, trail, now, self.limits)
            if kin is not None:
                return kin, found, program
        return _NEW, found, None

    def _owner(self, number: int, tenant: str) -> KnownProgram | None:
        program = self._numbered.get(number) if number else None
        return program if program is not None and program.key[0] == tenant else None

    def _new(self, trail: Trail, now: float) -> KnownProgram:
        number = self._last_number % _NUMBERS + 1
        while number in self._numbered:
            number = number % _NUMBERS + 1
        self._last_number = number
        name = _PREFIX + xxhash.xxh3_64_hexdigest(number.to_bytes(4, "little"), trail.exact)
        blocks = len(trail.hashes)
        program = KnownProgram((trail.tenant, name), number, blocks, blocks, now, now, size_bytes=PROGRAM_BYTES)
        self._numbered[number] = program
        return program

    def _enter(self, program: KnownProgram, trail: Trail, kin: Kin, found: Found, now: float) -> Kin:
        program.last = program.repeats = 0
        if len(program.steps) < self.limits.max_steps:
            program.last = entered(program, kin, trail, now, self.limits)
            self._mark(program, trail, kin, found)
            if kin.relation is Relation.NEW:
                self._programs.put(program.key, program, program.size_bytes)
            else:
                self._programs.resize(program.key, program.size_bytes)
            self._make_room(program)
            self._clear(_CLEARED_FOR_ONE)
        else:
            self.stats.unmarked += 1
        return Kin(kin.relation, program.key[1], program.last, kin.parent, 0, kin.shared_blocks)

    def _mark(self, program: KnownProgram, trail: Trail, kin: Kin, found: Found) -> None:
        marks, met = self._marks, found.mark if kin.relation is Relation.NEW else 0
        if kin.relation is Relation.FORK:
            # Several went on from here, so it is not the end of one.
            marks.ends[found.mark] = 0
        make_room(marks)
        place = program.number, program.last, kin.shared_blocks, met
        count = self._kernels.lay_marks(marks, trail.hashes, trail.scope, trail.exact, *place, self._laid)
        program.steps[-1].laid = self._laid[:count].copy()
        program.size_bytes += STEP_BYTES + MARK_BYTES * count

    def _make_room(self, program: KnownProgram) -> None:
        while (key := self._programs.surplus(rather=program.key[0])) is not None:
            self._forget(key)
            self.stats.evicted += 1

    def _forget(self, key: Key) -> None:
        program = self._programs.pop(key)
        del self._numbered[program.number]
        self._gone.append(program)

    def _clear(self, steps: int) -> None:
        """Takes marks of forgotten programs away, of so many steps. Until then nobody passed them alone."""
        while steps and self._gone:
            program = self._gone[0]
            if not program.steps:
                self._gone.popleft()
            elif (laid := program.steps.pop().laid) is not None:
                self._kernels.take_marks(self._marks, laid, program.number)
                steps -= 1
