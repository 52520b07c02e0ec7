"""What one step computes."""

from __future__ import annotations

from sim.engine.request import Request


class Batch:
    """Filled by the scheduler."""

    __slots__ = ("admitted", "budget", "fetching", "preempted", "tokens")

    def __init__(self, budget: int) -> None:
        self.budget = budget
        """Tokens that may still be added."""
        self.tokens: dict[Request, int] = {}
        """How many each request computes, in the order in which they were scheduled."""
        self.admitted: list[Request] = []
        self.preempted: list[Request] = []
        self.fetching: list[Request] = []
        """Requests that took blocks for what another replica is to send."""

    def add(self, request: Request, tokens: int) -> None:
        self.tokens[request] = tokens
        self.budget -= tokens

    def discard(self, request: Request) -> None:
        self.budget += self.tokens.pop(request, 0)
