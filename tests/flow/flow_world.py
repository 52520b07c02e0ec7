"""Waiting requests, replicas and a room, for tests of flow control's plug-ins."""

from __future__ import annotations

from itertools import count

import numpy as np

from router.core.fleet import ModelRef
from router.core.flow import Flow, ReplicaMemory, Waiting
from router.core.types import Decision, Outcome, ProgramHint, Prompt, ReplicaSpec, Request, Ticket, Usage
from router.core.waiting_room import WaitingRoom

_NUMBERS = count()
MODEL = ModelRef("m")


def waiting(program="", at_s=0.0, *, tokens=16, cached_tokens=0, tenant="", **hint) -> Waiting:
    """A request submitted now. With fields of a `ProgramHint`, its client tells these too."""
    number = next(_NUMBERS)
    request = Request(str(number), "m", Prompt(np.zeros(tokens, np.uint32)), session_id=program, tenant=tenant)
    if hint:
        request.program = ProgramHint(program, **hint)
    return Waiting(Ticket(request, at_s), MODEL, None, number, lambda _: cached_tokens)


class Desk:
    """A room with one flow. Requests leave to whatever replica they are pinned to, as long as ``places`` last."""

    def __init__(self, flow: Flow, memories: tuple[ReplicaMemory, ...] = (), places: float = 0) -> None:
        self.memories = list(memories)
        self.places = places
        self.now = 0.0
        self.left: list[str] = []
        self._room = WaitingRoom(flow, self._try_to_leave, lambda: self.memories)
        self._running: dict[str, Waiting] = {}

    def __len__(self) -> int:
        return len(self._room)

    def submit(self, program="", **request) -> Waiting:
        each = waiting(program, self.now, **request)
        self._room.enter(each, self.now)
        return each

    def poll(self, places: float | None = None) -> list[str]:
        """The programs of the requests that leave, in order."""
        if places is not None:
            self.places = places
        return [ticket.request.session_id for ticket in self._room.leave(self.now)]

    def end(self, each: Waiting, completion_tokens=0, outcome=Outcome.OK) -> None:
        usage = Usage(each.request.prompt_tokens, 0, completion_tokens)
        self._room.ended(each.ticket, usage, outcome, self.now)

    def withdraw(self, each: Waiting) -> bool:
        return self._room.withdraw(each.ticket, self.now)

    def next_wakeup(self) -> float | None:
        return self._room.next_wakeup()

    def _try_to_leave(self, each: Waiting, now: float) -> bool:
        if not self.places:
            return False
        self.places -= 1
        each.ticket.decision = Decision(ReplicaSpec(each.pinned or "any", "http://any"), 0)
        each.ticket.dispatched_s = now
        return True
