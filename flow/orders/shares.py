"""Weighted fair shares: which tenants have had more than theirs.

Each tenant has a counter of service over its weight. Virtual time is what a tenant would have that had its share
exactly: it moves by the service of all over the weights of those who wait. Who comes back after a pause starts at
virtual time, as nobody can save up. A tenant that is ``slack_tokens`` ahead is over its share until it is half of that
ahead; within the slack, other rules than fairness decide. Two tenants of equal weight that always have something
waiting are never further apart than twice the slack and what comes between two reviews: sides are changed at reviews,
so that what waits is not ranked again with every answer.

Service is prompt tokens that no cache had plus twice the output tokens: expected when a request leaves, put right when
it ends. Virtual token counters: Sheng et al., "Fairness in Serving Large Language Models" (OSDI 2024), with the weights
of their section 5; virtual time as in weighted fair queueing (Demers, Keshav, Shenker, 1989).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from router.core.flow import Waiting
from router.core.types import Ticket, Usage

_OUTPUT_WEIGHT = 2.0


@dataclass(slots=True)
class _Tenant:
    weight: float
    counter: float
    """Weighted tokens over weight."""
    waiting: int = 0
    running: int = 0
    over: bool = False


class Shares:
    """By tenant; who has nothing under way and is not ahead is forgotten."""

    def __init__(self, weights: Mapping[str, float], slack_tokens: float, review_s: float) -> None:
        """``weights``: 1 for tenants that are not in it. Raises ValueError for one that is not above 0."""
        for tenant, weight in weights.items():
            if not weight > 0:
                raise ValueError(f"the weight of tenant {tenant!r} is {weight}: give one above 0")
        self._weights = weights
        self._slack = slack_tokens
        self._review_s = review_s
        self._tenants: dict[str, _Tenant] = {}
        self._virtual = 0.0
        self._waiting_weight = 0.0
        self._reviewed_s = float("-inf")
        self._charged: dict[Ticket, float] = {}

    def __len__(self) -> int:
        return len(self._tenants)

    def weight(self, tenant: str) -> float:
        return self._weights.get(tenant, 1.0)

    def is_over(self, tenant: str) -> bool:
        known = self._tenants.get(tenant)
        return known is not None and known.over

    def review(self, now: float) -> list[str]:
        """Tenants that have changed sides; at most every ``review_s`` seconds."""
        if now - self._reviewed_s < self._review_s:
            return []
        self._reviewed_s = now
        changed = []
        for name, tenant in list(self._tenants.items()):
            ahead = tenant.counter - self._virtual
            over = ahead > (self._slack / 2.0 if tenant.over else self._slack)
            if over != tenant.over:
                tenant.over = over
                changed.append(name)
            if ahead <= 0.0 and not tenant.waiting and not tenant.running:
                del self._tenants[name]
        return changed

    def come(self, waiting: Waiting) -> None:
        name = waiting.request.tenant
        tenant = self._tenants.get(name)
        if tenant is None:
            tenant = self._tenants[name] = _Tenant(self.weight(name), self._virtual)
        if not tenant.waiting:
            self._waiting_weight += tenant.weight
            if not tenant.running:
                tenant.counter = max(tenant.counter, self._virtual)
        tenant.waiting += 1

    def dispatched(self, waiting: Waiting) -> None:
        ticket, call = waiting.ticket, waiting.call
        cached_tokens = 0 if ticket.decision is None else ticket.decision.cached_tokens
        output_tokens = 0.0 if call is None else call.output_tokens
        cost = max(ticket.request.prompt_tokens - cached_tokens, 0) + _OUTPUT_WEIGHT * output_tokens
        tenant = self._tenants[ticket.request.tenant]
        self._charged[ticket] = cost
        self._charge(tenant, cost)
        tenant.running += 1
        self._left(tenant)

    def withdrawn(self, waiting: Waiting) -> None:
        self._left(self._tenants[waiting.request.tenant])

    def ended(self, ticket: Ticket, usage: Usage | None) -> None:
        tenant, charged = self._tenants[ticket.request.tenant], self._charged.pop(ticket)
        tenant.running -= 1
        if usage is not None and usage.completion_tokens is not None:
            prompt_tokens = ticket.request.prompt_tokens if usage.prompt_tokens is None else usage.prompt_tokens
            computed_tokens = max(prompt_tokens - (usage.cached_tokens or 0), 0)
            self._charge(tenant, computed_tokens + _OUTPUT_WEIGHT * usage.completion_tokens - charged)

    def _charge(self, tenant: _Tenant, cost: float) -> None:
        tenant.counter += cost / tenant.weight
        self._virtual += cost / max(self._waiting_weight, tenant.weight)

    def _left(self, tenant: _Tenant) -> None:
        tenant.waiting -= 1
        if not tenant.waiting:
            self._waiting_weight -= tenant.weight
