"""The requests that replicas are working on for Weft, and what each weighs on its replica's load.

A request weighs from its dispatch until its end, or until it is overdue: a shell that forgets to report an end
cannot leave load behind for ever.
"""

from __future__ import annotations

from collections import defaultdict, deque
from dataclasses import dataclass

from router.core.load import Load
from router.core.types import Ticket


@dataclass(slots=True, eq=False)
class Work:
    """What one dispatched request weighs. ``generation`` tells a replica from its slot's next tenant."""

    slot: int
    generation: int
    prompt_tokens: int
    uncached_tokens: int
    queue_tokens: float
    """Prompt tokens that were to be computed there before it, at dispatch."""
    dispatched_s: float
    learns: bool
    """The first byte of its answer tells how long prefill took."""
    prefill_only: bool = False
    """It is over when its prompt is computed."""
    prefilled: bool = False


class InFlight:
    """Work by ticket, oldest first."""

    def __init__(self, load: Load) -> None:
        self._load = load
        self._work: dict[Ticket, Work] = {}
        self._generation: defaultdict[int, int] = defaultdict(int)
        self._queues: defaultdict[int, deque[Work]] = defaultdict(deque)

    def __len__(self) -> int:
        return len(self._work)

    def new_tenant(self, slot: int) -> None:
        """The slot changed hands: work of the previous replica no longer weighs on it."""
        self._generation[slot] += 1
        self._queues[slot].clear()

    def dispatch(
        self, ticket: Ticket, slot: int, uncached_tokens: int, now: float, *, learns: bool, prefill_only: bool = False
    ) -> None:
        """``learns``: the first byte of the answer will tell how long prefill took."""
        request = ticket.request
        work = Work(
            slot,
            self._generation[slot],
            request.prompt_tokens,
            uncached_tokens,
            float(self._load.prefill_tokens[slot]),
            now,
            learns,
            prefill_only,
        )
        self._work[ticket] = work
        queue = self._queues[slot]
        while queue and queue[0].prefilled:
            queue.popleft()
        queue.append(work)
        self._load.dispatch(slot, work.prompt_tokens, uncached_tokens)

    def start(self, ticket: Ticket, now: float) -> None:
        """The first byte of the answer arrived."""
        work = self._work.get(ticket)
        if work is None or not self._current(work):
            return
        if work.learns and not work.prefilled:
            tokens = int(work.queue_tokens) + work.uncached_tokens
            self._load.learn(work.slot, tokens, now - work.dispatched_s)
        self._prefilled(work)

    def end(self, ticket: Ticket) -> bool:
        """Takes the request off its replica. False: it had been given up before."""
        work = self._work.pop(ticket, None)
        if work is None:
            return False
        self._release(work)
        return True

    def settle(self, slot: int, before_s: float) -> None:
        """Counts what ``slot`` got until ``before_s`` as prefilled."""
        queue = self._queues[slot]
        while queue and queue[0].dispatched_s <= before_s:
            self._prefilled(queue.popleft())

    def give_up(self, before_s: float) -> list[Ticket]:
        """Releases every request dispatched until ``before_s``."""
        given_up = []
        while self._work:
            ticket, work = next(iter(self._work.items()))
            if work.dispatched_s > before_s:
                break
            del self._work[ticket]
            self._release(work)
            given_up.append(ticket)
        return given_up

    def oldest_s(self) -> float | None:
        """When the oldest request in flight was dispatched."""
        work = next(iter(self._work.values()), None)
        return None if work is None else work.dispatched_s

    def _release(self, work: Work) -> None:
        if self._current(work):
            self._prefilled(work)
            if not work.prefill_only:
                self._load.finish(work.slot, work.prompt_tokens)

    def _prefilled(self, work: Work) -> None:
        if not work.prefilled:
            work.prefilled = True
            self._load.start(work.slot, work.uncached_tokens)
            if work.prefill_only:
                self._load.finish(work.slot, work.prompt_tokens)

    def _current(self, work: Work) -> bool:
        return self._generation[work.slot] == work.generation
