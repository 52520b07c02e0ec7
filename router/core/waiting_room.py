"""Where requests are between their submission and their leaving: held by the admission, just come, or in the queue."""

from __future__ import annotations

from collections.abc import Callable

from router.core.bounds import Bounds
from router.core.flow import Flow, FlowObserver, Memories, ProgramKey, Reconsidering, Restless, Waiting
from router.core.held import Held
from router.core.histogram import Histogram
from router.core.queue import Queue
from router.core.types import Outcome, Refusal, Ticket, Usage

TryToLeave = Callable[[Waiting, float], bool]
"""Finds a replica or a refusal for a request. False: there is no room for it now."""
Refuse = Callable[[Ticket, Refusal], None]


def refuse(ticket: Ticket, refusal: Refusal) -> None:
    ticket.refusal = refusal


class WaitingRoom:
    """Drives the parts of a flow and tells those that watch."""

    def __init__(
        self,
        flow: Flow,
        try_to_leave: TryToLeave,
        memories: Memories,
        refuse: Refuse = refuse,
        first_observer: FlowObserver | None = None,
    ) -> None:
        """``memories`` tells the KV memory of the healthy replicas, for an admission. ``first_observer`` is told before
        the parts of the flow are."""
        self.bounds = Bounds(flow.limits)
        self.wait_s = Histogram()
        """Of those that had to queue and found a replica: from ``submit`` to their leaving."""
        self._try_to_leave = try_to_leave
        self._refuse = refuse
        self._memories = memories
        self.admission = flow.admission
        self._observers = flow.observers if first_observer is None else [first_observer, *flow.observers]
        self._restless = flow.order if isinstance(flow.order, Restless) else None
        self._reconsidering = flow.order if isinstance(flow.order, Reconsidering) else None
        self._queue = Queue(flow.order)
        self.held = Held(flow.order)
        self._come: dict[Ticket, Waiting] = {}
        """Who came since the last `leave`. Whoever is alone then need not be ranked."""
        self._waiting: dict[Ticket, Waiting] = {}
        """Who queues or is held."""
        self._newcomers: list[Waiting] = []
        """Who joined these since the last `leave`, and is not yet counted against the limits."""

    def __len__(self) -> int:
        return len(self._come) + len(self._waiting)

    def enter(self, waiting: Waiting, now: float) -> None:
        for observer in self._observers:
            observer.submitted(waiting, now)
        if self.admission is None or self.admission.enter(waiting, self._memories(), now):
            self._come[waiting.ticket] = waiting
        else:
            waiting.held = True
            self.held.put(waiting, now)
            self._waiting[waiting.ticket] = waiting
            self._newcomers.append(waiting)

    def leave(self, now: float) -> list[Ticket]:
        """Lets go, in order, whoever finds a replica or a refusal; then who is one too many or waited too long."""
        leaving = self._let_go(now)
        return leaving + self._turn_away(now) if self._waiting or self._newcomers else leaving

    def _let_go(self, now: float) -> list[Ticket]:
        if self.admission is not None:
            if self.held:
                self._rank_again(now)
            for waiting in self.admission.release(self.held, self._memories, now):
                self.held.remove(waiting)
                self._queue.put(waiting, now)
        come, self._come = self._come, {}
        if len(come) == 1 and not self._queue:
            (waiting,) = come.values()
            if self._try_to_leave(waiting, now):
                self._tell_left(waiting, now)
                return [waiting.ticket]
        self._waiting |= come
        self._newcomers += come.values()
        for waiting in come.values():
            self._queue.put(waiting, now)
        return self._leave_in_order(now) if self._queue else []

    def has_queued(self, waiting: Waiting) -> bool:
        """Whether a request that is about to leave had to queue, and so was ranked."""
        return waiting.ticket in self._waiting

    def withdraw(self, ticket: Ticket, now: float) -> bool:
        """False: it does not wait here."""
        waiting = self._come.pop(ticket, None)
        if waiting is None:
            waiting = self._waiting.pop(ticket, None)
            if waiting is None:
                return False
            self._remove(waiting)
        for observer in self._observers:
            observer.withdrawn(waiting, now)
        return True

    def ended(self, ticket: Ticket, usage: Usage | None, outcome: Outcome, now: float) -> None:
        """A request that had left is over."""
        for observer in self._observers:
            observer.ended(ticket, usage, outcome, now)

    def reconsider(self, program: ProgramKey) -> None:
        """What is expected of a program has changed: those of it who wait are ranked again by the next `leave`."""
        if self._reconsidering is not None:
            self._reconsidering.reconsider(program)

    def next_wakeup(self) -> float | None:
        """When to call `leave` again if nothing happens."""
        overdue_s = self.bounds.next_overdue_s()
        release_s = None if self.admission is None else self.admission.next_wakeup()
        return min((time_s for time_s in (overdue_s, release_s) if time_s is not None), default=None)

    def _leave_in_order(self, now: float) -> list[Ticket]:
        leaving: list[Ticket] = []
        self._queue.open_lanes()
        while (waiting := self._first(now)) is not None:
            if self._try_to_leave(waiting, now):
                self._queue.remove(waiting)
                del self._waiting[waiting.ticket]
                self._count(waiting, now)
                self._tell_left(waiting, now)
                leaving.append(waiting.ticket)
            else:
                self._queue.close_lane(waiting)
        return leaving

    def _first(self, now: float) -> Waiting | None:
        self._rank_again(now)
        return self._queue.first()

    def _rank_again(self, now: float) -> None:
        """What happened may have changed the places of those who wait."""
        if self._restless is not None and (moved := self._restless.moved(now)):
            self._queue.rank_again(moved, now)
            self.held.rank_again(moved, now)

    def _count(self, waiting: Waiting, now: float) -> None:
        if waiting.ticket.decision is None:
            self.bounds.forget(waiting)
            return
        self.bounds.left(waiting, now)
        self.wait_s.observe(now - waiting.ticket.submitted_s)

    def _turn_away(self, now: float) -> list[Ticket]:
        newcomers, self._newcomers = self._newcomers, []
        refusals = [
            (waiting, refusal)
            for waiting in newcomers
            if waiting.ticket in self._waiting and (refusal := self.bounds.enter(waiting, now)) is not None
        ]
        refusals += [(waiting, self.bounds.timeout(now)) for waiting in self.bounds.overdue(now)]
        return [self._refused(waiting, refusal, now) for waiting, refusal in refusals]

    def _refused(self, waiting: Waiting, refusal: Refusal, now: float) -> Ticket:
        del self._waiting[waiting.ticket]
        self._remove(waiting)
        self._refuse(waiting.ticket, refusal)
        self._tell_left(waiting, now)
        return waiting.ticket

    def _remove(self, waiting: Waiting) -> None:
        """From the queue, or from those whom the admission holds."""
        self.bounds.forget(waiting)
        if not self._queue.remove(waiting) and self.admission is not None:
            self.held.remove(waiting)
            self.admission.withdraw(waiting)

    def _tell_left(self, waiting: Waiting, now: float) -> None:
        for observer in self._observers:
            if waiting.ticket.decision is not None:
                observer.dispatched(waiting, now)
            else:
                observer.withdrawn(waiting, now)
