"""Whom an admission holds, in the order in which it lets them go."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Collection
from itertools import islice

from router.core.flow import Order, ProgramKey, Rank, Waiting

_Entry = tuple[Rank, int, Waiting]


class Held:
    """Requests by rank; equals as they were submitted."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._entries: list[_Entry] = []
        self._places: dict[Waiting, _Entry] = {}
        self._programs: defaultdict[ProgramKey, dict[Waiting, None]] = defaultdict(dict)

    def __len__(self) -> int:
        return len(self._places)

    @property
    def programs(self) -> int:
        """Of how many programs."""
        return len(self._programs)

    def first(self, count: int) -> list[Waiting]:
        return [waiting for _, _, waiting in islice(self._entries, count)]

    def put(self, waiting: Waiting, now: float) -> None:
        self._enter(waiting, self._order.rank(waiting, now))
        self._programs[waiting.request.program_key][waiting] = None

    def remove(self, waiting: Waiting) -> None:
        """Raises KeyError for one who is not held."""
        self._leave(waiting)
        del self._places[waiting]
        key = waiting.request.program_key
        of_program = self._programs[key]
        del of_program[waiting]
        if not of_program:
            del self._programs[key]

    def rank_again(self, programs: Collection[ProgramKey], now: float) -> None:
        for program in programs:
            for waiting in self._programs.get(program, ()):
                rank = self._order.rank(waiting, now)
                if rank != self._places[waiting][0]:
                    self._leave(waiting)
                    self._enter(waiting, rank)

    def _enter(self, waiting: Waiting, rank: Rank) -> None:
        entry = self._places[waiting] = (rank, waiting.number, waiting)
        insort(self._entries, entry)

    def _leave(self, waiting: Waiting) -> None:
        del self._entries[bisect_left(self._entries, self._places[waiting])]
