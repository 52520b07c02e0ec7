"""The default order: whole programs finish sooner when what holds up the shortest goes first.

Each request has a time by which it should start, and the earliest goes first (`flow.orders.start_by`):

- Across programs, least expected cost first (`flow.orders.outlook`), deadlines by slack. Nothing starves: who needs
  much waits long, but with bounds.
- Tenants that have had more than their share come after all others (`flow.orders.shares`).
- Inside a program `flow.orders.steps` decides.

The ranks of those who wait change only when something becomes of their program, or their tenant changes sides. Where
programs are not followed, requests go first come, first served, with shares.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from flow.orders.buckets import USUAL, Buckets
from flow.orders.outlook import TRUSTED_AT, expected_cost_s
from flow.orders.shares import Shares
from flow.orders.standings import Standings
from flow.orders.start_by import StartBy
from flow.orders.steps import place
from router.core.flow import ProgramKey, Rank, Waiting
from router.core.types import Outcome, Ticket, Usage


class CriticalPath:
    """Programs by expected cost and deadlines, steps by upward rank, tenants by shares."""

    name = "critical-path"

    def __init__(
        self,
        patience_s: float = 3600.0,
        half_cost_s: float = 1000.0,
        priority_s: float = 60.0,
        trusted_at: float = TRUSTED_AT,
        slack_tokens: float = 1_000_000.0,
        review_s: float = 1.0,
        tenant_weights: Mapping[str, float] | None = None,
    ) -> None:
        """For the parameters see `StartBy`, `expected_cost_s` and `Shares`. Raises ValueError for a weight that is not
        above 0."""
        self._start_by = StartBy(patience_s, half_cost_s, priority_s)
        self._standings = Standings(lambda program, tokens: expected_cost_s(program, tokens, trusted_at))
        self._shares = Shares(tenant_weights or {}, slack_tokens, review_s)
        self._buckets = Buckets()

    def rank(self, waiting: Waiting, now: float) -> Rank:
        step, request, came_s = waiting.step, waiting.request, waiting.ticket.submitted_s
        over = float(self._shares.is_over(request.tenant))
        if step is None:
            return over, came_s
        cost_s, weight = self._standings.cost_s(request.program_key), self._shares.weight(request.tenant)
        return over, self._start_by.time_s(step.program, cost_s, came_s, now, weight), *place(step)

    def moved(self, now: float) -> Collection[ProgramKey]:
        moved = self._standings.moved()
        moved.update(dict.fromkeys(self._standings.of_tenants(self._shares.review(now))))
        return moved

    def reconsider(self, program: ProgramKey) -> None:
        self._standings.reconsider(program)

    def engine_priority(self, waiting: Waiting) -> int | None:
        """By `Buckets`; the usual one for a call of which nothing is known and that nobody had to judge. None where
        programs are not followed."""
        call = waiting.call
        if call is None:
            return None
        if not call.is_step:
            return USUAL
        return self._buckets.of(self._standings.cost_s(waiting.request.program_key)) - call.step.program.priority

    def submitted(self, waiting: Waiting, now: float) -> None:
        self._standings.come(waiting)
        self._shares.come(waiting)

    def dispatched(self, waiting: Waiting, now: float) -> None:
        if waiting.call is not None and waiting.call.is_step:
            self._buckets.learn(self._standings.cost_s(waiting.request.program_key))
        self._standings.left(waiting)
        self._shares.dispatched(waiting)

    def withdrawn(self, waiting: Waiting, now: float) -> None:
        self._standings.left(waiting)
        self._shares.withdrawn(waiting)

    def ended(self, ticket: Ticket, usage: Usage | None, outcome: Outcome, now: float) -> None:
        self._standings.look(ticket.request.program_key)
        self._shares.ended(ticket, usage)
