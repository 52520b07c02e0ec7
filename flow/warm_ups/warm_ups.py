"""Puts the prefix of a program in a tool wait back into a cache, shortly before the program is expected back.

While tools run, other programs' prompts may take a program's place in the cache, and its next call computes everything
again while its client waits. Where a replica is idle it can do so before: the program's last prompt is sent once more,
with one token to answer.

- A prompt is kept from its call's end to the next call, if the program is expected to go on.
- When the program is expected back within ``ahead_s`` and ``least_tokens`` of the prompt are held nowhere, it is sent
  to an idle replica, once in a wait. Nothing is sent while any request waits.
- A warm-up under way stops when its program comes back, when a request is sent to its replica, or when one has to wait.
  The engine keeps the blocks that it has computed, so what comes loses nothing, and waits for one step at most.
- Each is settled by what the program's next call finds.
"""

from __future__ import annotations

from collections import deque
from heapq import heappop, heappush
from itertools import count
from typing import NamedTuple

from flow.warm_ups.expected import expected_back_s, goes_on
from flow.warm_ups.kept import Kept, KeptCalls, size_bytes
from flow.warm_ups.limits import WarmUpLimits
from flow.warm_ups.stats import WarmUpStats
from flow.warm_ups.warm_up import Result, WarmUp
from router.core.flow import ProgramKey, Waiting
from router.core.router import Router
from router.core.types import Outcome, Ticket, Usage

_AGAIN_S = 0.5
_LATER_S = 10.0
_WATCHED_S = 0.05
"""How soon it is seen that a request waits while a warm-up runs."""
_LONGEST_WAIT_S = 900.0
"""Who is away for longer is not waited for."""
_LOOKED_AT_ONCE = 8
_MINUTE_S = 60.0


class Orders(NamedTuple):
    """What the shell has to do now."""

    send: list[WarmUp]
    stop: list[WarmUp]


class WarmUps:
    """A `FlowObserver` of a router that follows programs. Its shell keeps calls, polls, and sends."""

    router: Router
    """To be set before anything happens: it is made later, since it tells its observers."""

    def __init__(self, limits: WarmUpLimits | None = None) -> None:
        self.limits = limits or WarmUpLimits()
        self.stats = WarmUpStats()
        self.kept = KeptCalls(self.limits.max_kept, self.limits.max_kept_bytes)
        self._open: dict[Ticket, Waiting] = {}
        """Calls of followed programs that replicas work on."""
        self._returned: dict[Ticket, WarmUp] = {}
        """Calls whose prefix was put back for them."""
        self._running: dict[WarmUp, None] = {}
        self._stopping: list[WarmUp] = []
        self._looks: list[tuple[float, int, ProgramKey]] = []
        """A heap: when to look at each program that is away. Only the newest look of each counts."""
        self._numbers = count()
        self._sent_s: deque[float] = deque()
        """In the last minute."""
        self._next_watch_s = 0.0

    def keep(self, ticket: Ticket, payload: object, payload_bytes: int) -> None:
        """What it takes to send the prompt of a call again, which was sent just now."""
        waiting = self._open.get(ticket)
        if waiting is None:
            return
        for dropped in self.kept.put(Kept(waiting, payload, size_bytes(waiting, payload_bytes))):
            self.stats.dropped += 1
            self._lose(dropped)

    def poll(self, now: float) -> Orders:
        """What is to be sent and stopped now."""
        self._next_watch_s = now + _WATCHED_S
        if self.router.waiting:
            for each in self._running:
                self._stop(each, now)
        send = []
        for _ in range(_LOOKED_AT_ONCE):
            if not self._looks or self._looks[0][0] > now:
                break
            _, number, key = heappop(self._looks)
            kept = self.kept.get(key)
            if kept is not None and kept.look == number and (warm_up := self._look(kept, now)) is not None:
                send.append(warm_up)
        stop = [each for each in self._stopping if each.running]
        self._stopping = []
        return Orders(send, stop)

    def next_wakeup(self) -> float | None:
        """When to poll again if nothing happens."""
        watch_s = self._next_watch_s if self._running else None
        look_s = self._looks[0][0] if self._looks else None
        return min((time_s for time_s in (watch_s, look_s) if time_s is not None), default=None)

    def over(self, warm_up: WarmUp, usage: Usage | None, outcome: Outcome, now: float) -> None:
        """It ended, or was stopped; ``usage`` is the replica's word."""
        self.router.on_response_end(warm_up.ticket, usage, outcome, now)
        del self._running[warm_up]
        warm_up.running = False
        if warm_up.stopped or outcome is Outcome.OK:
            self.stats.computed(warm_up, usage)
            return
        kept = self.kept.get(warm_up.key)
        if kept is not None and kept.warm_up is warm_up:
            self.kept.pop(kept.key)
            self.stats.settle(Result.FAILED)

    def submitted(self, waiting: Waiting, now: float) -> None:
        """Its program is back."""
        kept = self.kept.pop(waiting.request.program_key)
        if kept is None or kept.warm_up is None:
            return
        warm_up = self._returned[waiting.ticket] = kept.warm_up
        if warm_up.running:
            warm_up.late = True
            self._stop(warm_up, now)

    def dispatched(self, waiting: Waiting, now: float) -> None:
        decision = waiting.ticket.decision
        if waiting.call is not None and _can_be_repeated(waiting):
            self._open[waiting.ticket] = waiting
        for each in self._running:
            if decision is not None and each.decision.replica.name == decision.replica.name:
                self._stop(each, now)

    def withdrawn(self, waiting: Waiting, now: float) -> None:
        if self._returned.pop(waiting.ticket, None) is not None:
            self.stats.settle(Result.NO_RETURN)

    def ended(self, ticket: Ticket, usage: Usage | None, outcome: Outcome, now: float) -> None:
        warm_up = self._returned.pop(ticket, None)
        if warm_up is not None:
            self.stats.settle_by(warm_up, ticket, usage)
        waiting = self._open.pop(ticket, None)
        kept = self.kept.get(ticket.request.program_key)
        step = None if waiting is None or kept is None else waiting.step
        if step is None or kept is None or step.program.open:
            return
        if outcome is Outcome.OK and goes_on(step):
            kept.last, kept.since_s = step, now
            self._look_at(kept, now)
        else:
            self.kept.pop(kept.key)

    def _look(self, kept: Kept, now: float) -> WarmUp | None:
        """Sends a warm-up if it is time and there is room, and says when to look again."""
        away_s = now - kept.since_s
        if kept.last is None or away_s > _LONGEST_WAIT_S or not _is_followed(kept, self.router):
            self.kept.pop(kept.key)
            self._lose(kept)
            return None
        soon_s = expected_back_s(kept.last, away_s) - self.limits.ahead_s
        sent = self._send(kept, now) if kept.warm_up is None and soon_s <= 0.0 else None
        kept.warm_up = kept.warm_up or sent
        later_s = soon_s if kept.warm_up is None else _LATER_S
        self._look_at(kept, now + min(max(later_s, _AGAIN_S + away_s / 20.0), _LATER_S))
        return sent

    def _send(self, kept: Kept, now: float) -> WarmUp | None:
        waiting, limits = kept.waiting, self.limits
        if len(self._running) >= limits.max_in_flight or self._sent_lately(now) >= limits.max_per_minute:
            return None
        if self.router.waiting:
            return None
        held_tokens = waiting.best_cached_tokens()
        if waiting.request.prompt_tokens - held_tokens < limits.least_tokens:
            return None
        ticket = self.router.warm_up(waiting, limits.most_running, now)
        if ticket is None:
            return None
        warm_up = WarmUp(waiting, kept.payload, ticket, held_tokens)
        self._running[warm_up] = None
        self._sent_s.append(now)
        self.stats.sent += 1
        return warm_up

    def _sent_lately(self, now: float) -> int:
        while self._sent_s and self._sent_s[0] <= now - _MINUTE_S:
            self._sent_s.popleft()
        return len(self._sent_s)

    def _stop(self, warm_up: WarmUp, now: float) -> None:
        """It no longer weighs on its replica: who comes should go there as if it were idle."""
        if not warm_up.stopped:
            warm_up.stopped = True
            self.router.on_response_end(warm_up.ticket, None, Outcome.CLIENT_GONE, now)
            self._stopping.append(warm_up)
            self.stats.cut_short += 1

    def _lose(self, kept: Kept) -> None:
        """Nobody will be there to see what became of its warm-up."""
        if kept.warm_up is not None:
            self.stats.settle(Result.NO_RETURN)

    def _look_at(self, kept: Kept, time_s: float) -> None:
        kept.look = next(self._numbers)
        heappush(self._looks, (time_s, kept.look, kept.key))


def _can_be_repeated(waiting: Waiting) -> bool:
    """Images and sounds might have to be fetched again."""
    prompt = waiting.request.prompt
    return prompt is not None and not prompt.media


def _is_followed(kept: Kept, router: Router) -> bool:
    """Whether the program is the one that is known under its name, and not over."""
    if kept.last is None or router.programs is None:
        return False
    program = kept.last.program
    return router.programs.table.get(kept.key) is program and program.finished_s is None
