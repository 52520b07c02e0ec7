"""What warm-ups cost and gained."""

from __future__ import annotations

from dataclasses import dataclass, field

from flow.warm_ups.warm_up import Result, WarmUp
from router.core.types import Ticket, Usage


@dataclass(slots=True)
class WarmUpStats:
    """Counters since the start."""

    sent: int = 0
    cut_short: int = 0
    """Made way for others, or were late."""
    computed_tokens: int = 0
    """Prompt tokens that replicas computed for warm-ups. One that was cut short counts in full."""
    gained_tokens: int = 0
    """Prompt tokens that next calls found cached and no replica held before."""
    results: dict[Result, int] = field(default_factory=lambda: dict.fromkeys(Result, 0))
    """Of warm-ups that are settled."""
    dropped: int = 0
    """Calls that were kept no longer because there was no room."""

    def computed(self, warm_up: WarmUp, usage: Usage | None) -> None:
        """What it cost: the replica's word, or what was expected."""
        prompt_tokens, cached_tokens = warm_up.waiting.request.prompt_tokens, warm_up.decision.cached_tokens
        if usage is not None and usage.prompt_tokens is not None:
            prompt_tokens = usage.prompt_tokens
            cached_tokens = cached_tokens if usage.cached_tokens is None else usage.cached_tokens
        self.computed_tokens += max(prompt_tokens - cached_tokens, 0)

    def settle(self, result: Result) -> None:
        self.results[result] += 1

    def settle_by(self, warm_up: WarmUp, ticket: Ticket, usage: Usage | None) -> None:
        """By what its program's next call found, which is over."""
        decision = ticket.decision
        if decision is None or decision.replica.name != warm_up.decision.replica.name:
            self.settle(Result.LATE if warm_up.late else Result.ELSEWHERE)
            return
        told = None if usage is None else usage.cached_tokens
        found_tokens = decision.cached_tokens if told is None else told
        gained_tokens = min(found_tokens, warm_up.waiting.request.prompt_tokens) - warm_up.held_tokens
        self.gained_tokens += max(gained_tokens, 0)
        self.settle(Result.LATE if warm_up.late else Result.USED if gained_tokens > 0 else Result.LOST)
