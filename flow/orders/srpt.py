"""Shortest remaining processing time: the program that is expected to need least goes first.

What remains is the work that its steps are expected to need (`Program.remaining_work_s`); inside a program, first come,
first served. Requests of programs that are not followed need nothing that is known, and go first.
"""

from __future__ import annotations

from collections.abc import Collection

from flow.orders.standings import Standings
from router.core.flow import ProgramKey, Rank, Waiting
from router.core.types import Outcome, Ticket, Usage


class Srpt:
    """By the program's remaining work."""

    name = "srpt"

    def __init__(self) -> None:
        self._standings = Standings(lambda program, context_tokens: program.remaining_work_s)

    def rank(self, waiting: Waiting, now: float) -> Rank:
        return (self._standings.cost_s(waiting.request.program_key),)

    def moved(self, now: float) -> Collection[ProgramKey]:
        return self._standings.moved()

    def reconsider(self, program: ProgramKey) -> None:
        self._standings.reconsider(program)

    def submitted(self, waiting: Waiting, now: float) -> None:
        self._standings.come(waiting)

    def dispatched(self, waiting: Waiting, now: float) -> None:
        self._standings.left(waiting)

    def withdrawn(self, waiting: Waiting, now: float) -> None:
        self._standings.left(waiting)

    def ended(self, ticket: Ticket, usage: Usage | None, outcome: Outcome, now: float) -> None:
        self._standings.look(ticket.request.program_key)
