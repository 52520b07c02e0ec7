"""Requests that an admission holds, in the order in which they are let in."""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass, field
from itertools import islice

from flow.admission.context import Context
from router.core.flow import Waiting
from router.core.types import Ticket

Key = tuple[float, ...]


@dataclass(slots=True, eq=False)
class Held:
    waiting: Waiting
    context: Context
    key: Key
    since_s: float


@dataclass(slots=True)
class HeldRequests:
    """Lowest key first; those who are overdue before all others, longest first."""

    _by_ticket: dict[Ticket, Held] = field(default_factory=dict)
    """First held, first here."""
    _in_order: list[tuple[Key, Ticket]] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self._by_ticket)

    def add(self, held: Held) -> None:
        """Its key must be its own."""
        self._by_ticket[held.waiting.ticket] = held
        insort(self._in_order, (held.key, held.waiting.ticket), key=_key)

    def pop(self, ticket: Ticket) -> Held | None:
        held = self._by_ticket.pop(ticket, None)
        if held is not None:
            del self._in_order[bisect_left(self._in_order, held.key, key=_key)]
        return held

    def overdue(self, before_s: float) -> list[Held]:
        """Held since before then."""
        overdue = []
        for held in self._by_ticket.values():
            if held.since_s > before_s:
                break
            overdue.append(held)
        return overdue

    def first(self, count: int) -> list[Held]:
        return [self._by_ticket[ticket] for _, ticket in islice(self._in_order, count)]


def _key(entry: tuple[Key, Ticket]) -> Key:
    return entry[0]
