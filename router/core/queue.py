"""What waits, in the order in which it leaves.

Requests that can go to the same replicas share a lane: when its first finds no room, the others of the lane need not
be asked. Each lane is a heap. Who left, was withdrawn or was ranked anew leaves an entry behind that no longer counts;
it goes when it comes to the top, or when most entries are such.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush

from router.core.flow import Order, ProgramKey, Rank, Restless, Waiting

_Entry = tuple[Rank, int, Waiting]

_FEW_ENTRIES = 64


@dataclass(slots=True, eq=False)
class _Lane:
    key: tuple[object, ...]
    heap: list[_Entry] = field(default_factory=list)
    waiting: int = 0


class Queue:
    """Requests by lane and rank."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._is_restless = isinstance(order, Restless)
        self._places: dict[Waiting, tuple[_Entry, _Lane]] = {}
        """Of each who waits the entry that counts."""
        self._programs: defaultdict[ProgramKey, dict[Waiting, None]] = defaultdict(dict)
        """Who waits of each program, first come first; kept for a restless order only."""
        self._lanes: dict[tuple[object, ...], _Lane] = {}
        self._open: list[_Lane] = []

    def __len__(self) -> int:
        return len(self._places)

    def put(self, waiting: Waiting, now: float) -> None:
        key = waiting.lane
        lane = self._lanes.get(key)
        if lane is None:
            lane = self._lanes[key] = _Lane(key)
        lane.waiting += 1
        self._enter(waiting, lane, self._order.rank(waiting, now))
        if self._is_restless:
            self._programs[waiting.request.program_key][waiting] = None

    def remove(self, waiting: Waiting) -> bool:
        """False: it was not here."""
        place = self._places.pop(waiting, None)
        if place is None:
            return False
        lane = place[1]
        lane.waiting -= 1
        if not lane.waiting:
            del self._lanes[lane.key]
        if self._is_restless:
            program = waiting.request.program_key
            del self._programs[program][waiting]
            if not self._programs[program]:
                del self._programs[program]
        return True

    def open_lanes(self) -> None:
        """From here on `first` looks at all lanes again."""
        self._open = list(self._lanes.values())

    def close_lane(self, waiting: Waiting) -> None:
        """`first` passes over the request and those behind it in its lane, until `open_lanes`. Its lane may have become
        another one."""
        entry, lane = self._places[waiting]
        if lane.key != waiting.lane:
            lane = self._move(waiting, entry, lane)
        if lane in self._open:
            self._open.remove(lane)

    def first(self) -> Waiting | None:
        """Who leaves next, closed lanes aside."""
        heads = [head for lane in self._open if (head := self._head(lane)) is not None]
        return min(heads)[2] if heads else None

    def rank_again(self, programs: Collection[ProgramKey], now: float) -> None:
        """What waits of these programs may have another rank than it had."""
        if 2 * len(programs) > len(self._programs):
            self._rank_all_again(now)
            return
        for program in programs:
            for waiting in self._programs.get(program, ()):
                (old_rank, _, _), lane = self._places[waiting]
                rank = self._order.rank(waiting, now)
                if rank != old_rank:
                    self._enter(waiting, lane, rank)

    def _move(self, waiting: Waiting, entry: _Entry, lane: _Lane) -> _Lane:
        lane.waiting -= 1
        if not lane.waiting:
            del self._lanes[lane.key]
        key = waiting.lane
        new = self._lanes.setdefault(key, _Lane(key))
        new.waiting += 1
        self._enter(waiting, new, entry[0])
        return new

    def _rank_all_again(self, now: float) -> None:
        for lane in self._lanes.values():
            lane.heap = []
        for waiting, (_, lane) in self._places.items():
            entry = (self._order.rank(waiting, now), waiting.number, waiting)
            self._places[waiting] = (entry, lane)
            lane.heap.append(entry)
        for lane in self._lanes.values():
            heapify(lane.heap)

    def _enter(self, waiting: Waiting, lane: _Lane, rank: Rank) -> None:
        entry = (rank, waiting.number, waiting)
        self._places[waiting] = (entry, lane)
        heappush(lane.heap, entry)
        if len(lane.heap) > 2 * lane.waiting + _FEW_ENTRIES:
            lane.heap = [each for each in lane.heap if self._counts(each)]
            heapify(lane.heap)

    def _head(self, lane: _Lane) -> _Entry | None:
        heap = lane.heap
        while heap and not self._counts(heap[0]):
            heappop(heap)
        return heap[0] if heap else None

    def _counts(self, entry: _Entry) -> bool:
        place = self._places.get(entry[2])
        return place is not None and place[0] is entry
