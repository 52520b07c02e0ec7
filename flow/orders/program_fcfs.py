"""Programs in the order in which their first requests came: one that has begun is finished before the next one begins.

The order of Continuum ("CacheTTL", arXiv 2511.02230) without its pins.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from flow.programs import LruByProgram
from router.core.flow import Rank, Waiting
from router.core.types import Outcome, Ticket, Usage


@dataclass(slots=True)
class _Program:
    arrival_s: float = inf


class ProgramFcfs:
    """First program come, first served; inside one, first request come."""

    name = "program-fcfs"

    def __init__(self, max_programs: int = 100_000, idle_s: float = 3600.0) -> None:
        self._programs = LruByProgram(_Program, max_programs, idle_s)

    def rank(self, waiting: Waiting, now: float) -> Rank:
        program = self._programs.find(waiting.request.program_key)
        return (waiting.ticket.submitted_s if program is None else program.arrival_s,)

    def submitted(self, waiting: Waiting, now: float) -> None:
        program = self._programs.use(waiting.request.program_key, now)
        program.arrival_s = min(program.arrival_s, now)

    def dispatched(self, waiting: Waiting, now: float) -> None:
        """The program keeps its place."""

    def withdrawn(self, waiting: Waiting, now: float) -> None:
        """The program keeps its place."""

    def ended(self, ticket: Ticket, usage: Usage | None, outcome: Outcome, now: float) -> None:
        """The program keeps its place."""
