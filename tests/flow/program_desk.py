"""A desk whose requests belong to programs that are followed, for tests of orders that look at them."""

from __future__ import annotations

from itertools import count

import numpy as np

from router.core.fleet import ModelRef
from router.core.flow import Flow, Order, Waiting
from router.core.programs.declare import read_declaration
from router.core.programs.tracker import Programs
from router.core.types import Decision, Outcome, ProgramHint, Prompt, ReplicaSpec, Request, Ticket, Usage
from router.core.waiting_room import WaitingRoom

_NUMBERS = count()
_MODEL = ModelRef("m")


class ProgramDesk:
    """Requests wait in one room; whoever leaves runs until it is ended."""

    def __init__(self, order: Order, *, follow: bool = True) -> None:
        self.order = order
        self.programs = Programs() if follow else None
        self.now = 0.0
        self.places = 0
        self.waiting: dict[Ticket, Waiting] = {}
        self.running: dict[Ticket, Waiting] = {}
        self._room = WaitingRoom(Flow(order), self._try_to_leave, list, first_observer=self.programs)

    def submit(self, program: str, *, tokens: int = 16, tenant: str = "", **hint) -> Waiting:
        number = next(_NUMBERS)
        request = Request(
            str(number), "m", Prompt(np.zeros(tokens, np.uint32)), tenant=tenant, program=ProgramHint(program, **hint)
        )
        each = Waiting(Ticket(request, self.now), _MODEL, None, number, lambda _: 0)
        self.waiting[each.ticket] = each
        self._room.enter(each, self.now)
        return each

    def declare(self, program: str, *steps: dict) -> None:
        """Its client tells the graph of a program."""
        key = "", program
        self.programs.declare(key, read_declaration({"steps": list(steps)}), self.now)
        self._room.reconsider(key)

    def poll(self, places: int) -> list[str]:
        """Lets so many go; their programs, in order."""
        return [ticket.request.program.id for ticket in self.leave(places)]

    def poll_steps(self, places: int) -> list[str]:
        return [ticket.request.program.step for ticket in self.leave(places)]

    def peek(self) -> list[str]:
        """The programs of all who wait, in the order in which they would leave now."""
        return [ticket.request.program.id for ticket in self.ranked()]

    def ranked(self) -> list[Ticket]:
        """All who wait, ranked now."""
        self.leave(0)
        waiting = sorted(self.waiting.values(), key=lambda each: (self.order.rank(each, self.now), each.number))
        return [each.ticket for each in waiting]

    def end(self, each: Waiting, completion_tokens: int = 1, outcome: Outcome = Outcome.OK) -> None:
        del self.running[each.ticket]
        usage = Usage(each.request.prompt_tokens, 0, completion_tokens)
        self._room.ended(each.ticket, usage, outcome, self.now)

    def withdraw(self, step: str) -> None:
        each = next(each for each in self.waiting.values() if each.request.program.step == step)
        del self.waiting[each.ticket]
        self._room.withdraw(each.ticket, self.now)

    def leave(self, places: int) -> list[Ticket]:
        """Lets so many go."""
        self.places = places
        return self._room.leave(self.now)

    def _try_to_leave(self, each: Waiting, now: float) -> bool:
        if not self.places:
            return False
        self.places -= 1
        each.ticket.decision = Decision(ReplicaSpec("any", "http://any"), 0)
        each.ticket.dispatched_s = now
        self.running[each.ticket] = self.waiting.pop(each.ticket)
        return True
