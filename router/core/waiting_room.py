"""Where requests are between their submission and their leaving: held by the admission, just come, or in the queue."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from router.core.flow import Flow, ReplicaMemory, Waiting
from router.core.queue import Queue
from router.core.types import Outcome, Ticket, Usage

TryToLeave = Callable[[Waiting, float], bool]
"""Finds a replica or a refusal for a request. False: there is no room for it now."""


class WaitingRoom:
    """Drives the parts of a flow and tells those that watch."""

    def __init__(self, flow: Flow, try_to_leave: TryToLeave, memories: Callable[[], Sequence[ReplicaMemory]]) -> None:
        """``memories`` tells the KV memory of the healthy replicas, for an admission."""
        self._try_to_leave = try_to_leave
        self._memories = memories
        self._admission = flow.admission
        self._observers = flow.observers
        self._queue = Queue(flow.order)
        self._waiting: dict[Ticket, Waiting] = {}
        self._come: list[Waiting] = []
        """Who came since the last `leave`. Whoever is alone with that need not be ranked."""

    def __len__(self) -> int:
        return len(self._waiting)

    def enter(self, waiting: Waiting, now: float) -> None:
        self._waiting[waiting.ticket] = waiting
        for observer in self._observers:
            observer.submitted(waiting, now)
        if self._admission is None or self._admission.enter(waiting, self._memories(), now):
            self._come.append(waiting)

    def leave(self, now: float) -> list[Ticket]:
        """Lets go, in order, whoever finds a replica or a refusal."""
        if self._admission is not None:
            self._come += self._admission.release(self._memories(), now)
        come = self._come
        if not come and not self._queue:
            return []
        self._come = []
        if len(come) == 1 and not self._queue and self._try_to_leave(come[0], now):
            return [self._left(come[0], now)]
        for waiting in come:
            self._queue.put(waiting, now)
        return self._leave_in_order(now)

    def withdraw(self, ticket: Ticket, now: float) -> bool:
        """False: it does not wait here."""
        waiting = self._waiting.pop(ticket, None)
        if waiting is None:
            return False
        if waiting in self._come:
            self._come.remove(waiting)
        elif not self._queue.remove(waiting) and self._admission is not None:
            self._admission.withdraw(waiting)
        for observer in self._observers:
            observer.withdrawn(waiting, now)
        return True

    def ended(self, ticket: Ticket, usage: Usage | None, outcome: Outcome, now: float) -> None:
        """A request that had left is over."""
        for observer in self._observers:
            observer.ended(ticket, usage, outcome, now)

    def next_wakeup(self) -> float | None:
        return None if self._admission is None else self._admission.next_wakeup()

    def _leave_in_order(self, now: float) -> list[Ticket]:
        leaving: list[Ticket] = []
        self._queue.open_lanes()
        while (waiting := self._queue.first(now)) is not None:
            if self._try_to_leave(waiting, now):
                self._queue.remove(waiting)
                leaving.append(self._left(waiting, now))
            else:
                self._queue.close_lane(waiting)
        return leaving

    def _left(self, waiting: Waiting, now: float) -> Ticket:
        ticket = waiting.ticket
        del self._waiting[ticket]
        for observer in self._observers:
            if ticket.decision is not None:
                observer.dispatched(waiting, now)
            else:
                observer.withdrawn(waiting, now)
        return ticket
