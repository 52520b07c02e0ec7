"""Autellix' queues: requests of programs that have attained little service go first, and nobody starves.

A request joins one of seven queues by the seconds of service that its program, or its path in it, had attained when it
came: [0, 2), [2, 4), [4, 8) .. [64, inf). First come, first served inside a queue. What waits of a program moves to the
end of the first queue once ``(waited + waits) / max(1, served) >= 8``: what the program's requests waited in all and
what the first of those that wait does, over the service that the program had, in seconds. Waiting is that in the
router; service is the time from leaving the router to the end of the answer.

Autellix (arXiv 2502.13965), Algorithm 1. Boundaries and the ratio are those of Crystalclear9/Autellix,
autellix/core/schedulers.py, as the paper gives none. Its demotion and preemption of running calls need an engine.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from typing import Protocol

from flow.programs import LruByProgram
from router.core.flow import ProgramKey, Rank, Waiting
from router.core.types import Outcome, Request, Ticket, Usage

BOUNDARIES_S = (2.0, 4.0, 8.0, 16.0, 32.0, 64.0)
_LEAST_SERVICE_S = 1.0
_FEW = 64


class Attained(Protocol):
    """Accounts for the service that requests of one program build on."""

    def before(self, request: Request) -> float:
        """Seconds attained before this request."""

    def add(self, request: Request, before_s: float, service_s: float) -> None:
        """The request, before which ``before_s`` had been attained, was served for ``service_s``."""


@dataclass(slots=True)
class _Program:
    attained: Attained
    served_s: float = 0.0
    waited_s: float = 0.0


@dataclass(slots=True)
class _Call:
    """A request, from its submission to its end."""

    before_s: float
    queue: int
    since_s: float
    """When it joined its queue."""


class AutellixOrder:
    """By queue, and in a queue by when a request joined it."""

    def __init__(
        self,
        name: str,
        make_attained: Callable[[], Attained],
        boundaries_s: Sequence[float] = BOUNDARIES_S,
        starvation_ratio: float = 8.0,
        max_programs: int = 100_000,
        idle_s: float = 3600.0,
    ) -> None:
        self.name = name
        self._boundaries_s = boundaries_s
        self._starvation_ratio = starvation_ratio
        self._programs = LruByProgram(lambda: _Program(make_attained()), max_programs, idle_s)
        self._calls: dict[Ticket, _Call] = {}
        self._behind: defaultdict[ProgramKey, dict[Ticket, None]] = defaultdict(dict)
        """Who waits of each program in other queues than the first, first come first."""
        self._starving: list[tuple[float, ProgramKey]] = []
        """When programs in ``_behind`` have waited too long, as it was when they were entered."""

    def rank(self, waiting: Waiting, now: float) -> Rank:
        call = self._calls[waiting.ticket]
        return call.queue, call.since_s

    def moved(self, now: float) -> Collection[ProgramKey]:
        moved = []
        while self._starving and self._starving[0][0] <= now:
            _, key = heappop(self._starving)
            if key in self._behind and self._starves_at_s(key, now) <= now:
                for ticket in self._behind.pop(key):
                    call = self._calls[ticket]
                    call.queue, call.since_s = 0, now
                moved.append(key)
            else:
                self._watch(key, now)
        return moved

    def submitted(self, waiting: Waiting, now: float) -> None:
        key = waiting.request.program_key
        before_s = self._programs.use(key, now).attained.before(waiting.request)
        queue = bisect_right(self._boundaries_s, before_s)
        self._calls[waiting.ticket] = _Call(before_s, queue, now)
        if queue:
            self._behind[key][waiting.ticket] = None
            if len(self._behind[key]) == 1:
                self._watch(key, now)

    def dispatched(self, waiting: Waiting, now: float) -> None:
        key = waiting.request.program_key
        self._programs.use(key, now).waited_s += now - waiting.ticket.submitted_s
        self._leave(key, waiting.ticket, now)

    def withdrawn(self, waiting: Waiting, now: float) -> None:
        del self._calls[waiting.ticket]
        self._leave(waiting.request.program_key, waiting.ticket, now)

    def ended(self, ticket: Ticket, usage: Usage | None, outcome: Outcome, now: float) -> None:
        call = self._calls.pop(ticket)
        if ticket.dispatched_s is None:
            return
        program = self._programs.use(ticket.request.program_key, now)
        service_s = now - ticket.dispatched_s
        program.served_s += service_s
        program.attained.add(ticket.request, call.before_s, service_s)

    def _leave(self, key: ProgramKey, ticket: Ticket, now: float) -> None:
        behind = self._behind.get(key)
        if behind is not None:
            behind.pop(ticket, None)
            if behind:
                self._watch(key, now)
            else:
                del self._behind[key]

    def _watch(self, key: ProgramKey, now: float) -> None:
        if key in self._behind:
            heappush(self._starving, (self._starves_at_s(key, now), key))
            if len(self._starving) > _FEW + 4 * len(self._calls):
                self._starving = [(self._starves_at_s(each, now), each) for each in self._behind]
                heapify(self._starving)

    def _starves_at_s(self, key: ProgramKey, now: float) -> float:
        """When the first that came will have waited too long."""
        program = self._programs.use(key, now)
        patience_s = self._starvation_ratio * max(_LEAST_SERVICE_S, program.served_s) - program.waited_s
        return next(iter(self._behind[key])).submitted_s + patience_s
