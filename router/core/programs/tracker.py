"""Follows requests through the router and tells the program table and the lineage what becomes of them."""

from __future__ import annotations

from dataclasses import replace

from router.core.flow import Waiting
from router.core.programs.lineage import Lineage
from router.core.programs.lineage_rule import LineageLimits
from router.core.programs.lineage_trail import trail_of
from router.core.programs.step import Step
from router.core.programs.table import ProgramTable, TableLimits
from router.core.types import Outcome, ProgramHint, Request, Ticket, Usage


class Programs:
    """A `FlowObserver` that is told before all others: they find a request's step in ``Waiting.step``."""

    def __init__(self, limits: TableLimits | None = None, lineage_limits: LineageLimits | None = None) -> None:
        self.table = ProgramTable(limits=limits)
        self.lineage = Lineage(lineage_limits)
        self._steps: dict[Ticket, Step] = {}
        """Of requests that wait or run."""

    @property
    def following(self) -> int:
        """Requests that wait or run."""
        return len(self._steps)

    def submitted(self, waiting: Waiting, now: float) -> None:
        request = waiting.request
        if _is_unnamed(request):
            self._name(waiting, now)
        waiting.step = self._steps[waiting.ticket] = self.table.observe(request, now)

    def dispatched(self, waiting: Waiting, now: float) -> None:
        decision = waiting.ticket.decision
        cached_tokens = 0 if decision is None else decision.cached_tokens
        self.table.dispatched(self._steps[waiting.ticket], cached_tokens, now)

    def started(self, ticket: Ticket, now: float) -> None:
        """The first token of a streamed answer came."""
        step = self._steps.get(ticket)
        if step is not None:
            self.table.started(step, now)

    def withdrawn(self, waiting: Waiting, now: float) -> None:
        self.table.withdrawn(self._steps.pop(waiting.ticket), now)

    def ended(self, ticket: Ticket, usage: Usage | None, outcome: Outcome, now: float) -> None:
        self.table.ended(self._steps.pop(ticket), usage, outcome, now)

    def expire(self, now: float) -> None:
        """Forgets what is idle; to be called now and then."""
        self.table.expire(now)
        self.lineage.expire(now)

    def _name(self, waiting: Waiting, now: float) -> None:
        """Nobody said what program the request belongs to: its prompt may."""
        request, chain = waiting.request, waiting.chain
        if request.prompt is None or chain is None or not chain.hashes:
            return
        size = min(chain.hashes)
        trail = trail_of(request.prompt, chain.hashes[size], size, request.tenant, waiting.model.base)
        name = self.lineage.remember(trail, now).program
        if name:
            hint = request.program
            request.program = ProgramHint(name) if hint is None else replace(hint, id=name)


def _is_unnamed(request: Request) -> bool:
    hint = request.program
    return not request.session_id and (hint is None or not hint.id)
