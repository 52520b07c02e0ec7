"""Rules as plug-ins: whether a request's prompt is computed elsewhere."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(slots=True, frozen=True)
class Way:
    """What computing a prompt on one replica means, predicted."""

    replica: str
    prompt_tokens: int
    cached_tokens: int
    queued_tokens: float
    """Prompt tokens to compute there first."""
    queued_requests: float
    """Whose prefill is not done."""
    running_requests: float
    """Answers under way there: while a prompt is computed they hardly go on."""
    tokens_per_s: float
    """Prefill rate, learned."""

    @property
    def uncached_tokens(self) -> int:
        return max(self.prompt_tokens - self.cached_tokens, 0)

    @property
    def queue_s(self) -> float:
        return self.queued_tokens / self.tokens_per_s

    @property
    def compute_s(self) -> float:
        return self.uncached_tokens / self.tokens_per_s


@dataclass(slots=True, frozen=True)
class Ways:
    """The two ways to serve a request whose decode replica is chosen."""

    here: Way
    """Aggregated: the decode replica computes the prompt itself."""
    elsewhere: Way
    """Disaggregated: the best prefill replica does."""
    transfer_s: float
    """From there to the decode replica, what that one does not hold."""


class Rule(Protocol):
    """Chooses between two ways. May keep state; belongs to one router."""

    name: str
    splits: bool
    """Whether it ever disaggregates."""

    def disaggregates(self, ways: Ways) -> bool: ...
