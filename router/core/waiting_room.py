"""Where requests are between their submission and their leaving: held by the admission, or in the queue."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from router.core.flow import Flow, Waiting
from router.core.queue import Lane, Queue
from router.core.types import Outcome, ReplicaSpec, Ticket, Usage


class WaitingRoom:
    """Drives the parts of a flow and tells those that watch."""

    def __init__(self, flow: Flow) -> None:
        self._admission = flow.admission
        self._observers = flow.observers
        self._queue = Queue(flow.order)
        self._waiting: dict[Ticket, Waiting] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def needs_replicas(self) -> bool:
        """Whether `enter` and `leave` look at the replicas at all."""
        return self._admission is not None

    def enter(self, waiting: Waiting, replicas: Sequence[ReplicaSpec], now: float) -> None:
        self._waiting[waiting.ticket] = waiting
        for observer in self._observers:
            observer.submitted(waiting, now)
        if self._admission is None or self._admission.enter(waiting, replicas, now):
            self._queue.put(waiting, now)

    def leave(
        self, try_to_leave: Callable[[Waiting, float], bool], replicas: Sequence[ReplicaSpec], now: float
    ) -> list[Ticket]:
        """Lets go, in order, whoever ``try_to_leave`` finds a replica or a refusal for."""
        if self._admission is not None:
            for waiting in self._admission.release(replicas, now):
                self._queue.put(waiting, now)
        self._queue.rank_again(now)
        leaving: list[Ticket] = []
        closed: set[Lane] = set()
        while (waiting_now := self._queue.first(closed)) is not None:
            if not try_to_leave(waiting_now, now):
                closed.add(waiting_now.lane)
                continue
            self._queue.remove(waiting_now)
            del self._waiting[waiting_now.ticket]
            leaving.append(waiting_now.ticket)
            self._tell_left(waiting_now, now)
        return leaving

    def withdraw(self, ticket: Ticket, now: float) -> bool:
        """False: it does not wait here."""
        waiting = self._waiting.pop(ticket, None)
        if waiting is None:
            return False
        if not self._queue.remove(waiting) and self._admission is not None:
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

    def _tell_left(self, waiting: Waiting, now: float) -> None:
        for observer in self._observers:
            if waiting.ticket.decision is not None:
                observer.dispatched(waiting, now)
            else:
                observer.withdrawn(waiting, now)
