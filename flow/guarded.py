"""Keeps a user's order from breaking the queue.

An order that raises, or returns what is no rank, gives the request the first place: nobody may starve by a defect. The
mishap is counted and shown.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from math import isnan

from router.core.flow import FlowObserver, Order, Prioritising, ProgramKey, Rank, Reconsidering, Restless, Waiting
from router.core.types import Outcome, Ticket, Usage

_FIRST: Rank = ()
_MAX_PRIORITY = 2**31 - 1


class Guarded:
    def __init__(self, order: Order) -> None:
        self.name = order.name
        self.mishaps = 0
        self.last_mishap = ""
        self._order = order
        self._restless = order if isinstance(order, Restless) else None
        self._reconsidering = order if isinstance(order, Reconsidering) else None
        self._prioritising = order if isinstance(order, Prioritising) else None
        self._observer = order if isinstance(order, FlowObserver) else None

    def rank(self, waiting: Waiting, now: float) -> Rank:
        try:
            rank = tuple(float(value) for value in self._order.rank(waiting, now))
        except Exception as error:  # whatever a stranger's code raises
            self._count(repr(error))
            return _FIRST
        if any(isnan(value) for value in rank):
            self._count("a rank that is not a number")
            return _FIRST
        return rank

    def moved(self, now: float) -> Collection[ProgramKey]:
        if self._restless is None:
            return ()
        try:
            return dict.fromkeys(self._restless.moved(now))
        except Exception as error:  # whatever a stranger's code raises
            self._count(repr(error))
            return ()

    def reconsider(self, program: ProgramKey) -> None:
        if self._reconsidering is not None:
            self._tell(self._reconsidering.reconsider, program)

    def engine_priority(self, waiting: Waiting) -> int | None:
        if self._prioritising is None:
            return None
        try:
            priority = self._prioritising.engine_priority(waiting)
            return None if priority is None else max(-_MAX_PRIORITY, min(int(priority), _MAX_PRIORITY))
        except Exception as error:  # whatever a stranger's code raises
            self._count(repr(error))
            return None

    def submitted(self, waiting: Waiting, now: float) -> None:
        if self._observer is not None:
            self._tell(self._observer.submitted, waiting, now)

    def dispatched(self, waiting: Waiting, now: float) -> None:
        if self._observer is not None:
            self._tell(self._observer.dispatched, waiting, now)

    def withdrawn(self, waiting: Waiting, now: float) -> None:
        if self._observer is not None:
            self._tell(self._observer.withdrawn, waiting, now)

    def ended(self, ticket: Ticket, usage: Usage | None, outcome: Outcome, now: float) -> None:
        if self._observer is not None:
            self._tell(self._observer.ended, ticket, usage, outcome, now)

    def _tell(self, listen: Callable[..., None], *what: object) -> None:
        try:
            listen(*what)
        except Exception as error:  # whatever a stranger's code raises
            self._count(repr(error))

    def _count(self, why: str) -> None:
        self.mishaps += 1
        self.last_mishap = why
