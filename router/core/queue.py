"""What waits, in the order in which it leaves.

Requests that can go to the same replicas share a lane: when its first finds no room, the others of the lane need not
be asked. Each lane is a heap; who was withdrawn stays in it until it comes to the top.
"""

from __future__ import annotations

from heapq import heapify, heappop, heappush

from router.core.flow import Order, Rank, Restless, Waiting

Lane = tuple[object, ...]
_Entry = tuple[Rank, int, Waiting]


class Queue:
    """Requests by lane and rank."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._restless = order if isinstance(order, Restless) else None
        self._lanes: dict[Lane, list[_Entry]] = {}
        self._waiting: dict[int, Waiting] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def put(self, waiting: Waiting, now: float) -> None:
        self._waiting[waiting.number] = waiting
        entry = (self._order.rank(waiting, now), waiting.number, waiting)
        heappush(self._lanes.setdefault(waiting.lane, []), entry)

    def first(self, closed: set[Lane]) -> Waiting | None:
        """Who leaves next, lanes in ``closed`` aside."""
        heads = [head for lane in list(self._lanes) if lane not in closed and (head := self._head(lane)) is not None]
        return min(heads)[2] if heads else None

    def remove(self, waiting: Waiting) -> bool:
        """False: it was not here."""
        return self._waiting.pop(waiting.number, None) is not None

    def rank_again(self, now: float) -> None:
        """Puts everybody where the order wants them now, if it has changed its mind."""
        if self._restless is None or not self._restless.changed(now):
            return
        self._lanes.clear()
        for waiting in self._waiting.values():
            entry = (self._order.rank(waiting, now), waiting.number, waiting)
            self._lanes.setdefault(waiting.lane, []).append(entry)
        for heap in self._lanes.values():
            heapify(heap)

    def _head(self, lane: Lane) -> _Entry | None:
        heap = self._lanes[lane]
        while heap and heap[0][1] not in self._waiting:
            heappop(heap)
        if heap:
            return heap[0]
        del self._lanes[lane]
        return None
