"""What one request took, and what many took together."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(slots=True, frozen=True)
class Call:
    """One answered or failed request, as its client saw it."""

    replica: str = ""
    """Where the router sent it."""
    ttft_s: float = 0.0
    """From sending the request to the first text of the answer."""
    e2e_s: float = 0.0
    """From sending the request to the end of the answer."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    """Of the prompt, as the replica reports: what it did not have to compute."""
    answer: str = ""
    error: str = ""
    """Empty when all went well."""


@dataclass(slots=True, frozen=True)
class Summary:
    """Figures over all calls of one run. Times and tokens are those of answered requests."""

    ttft_mean_s: float
    ttft_p95_s: float
    e2e_mean_s: float
    e2e_p95_s: float
    prefix_hit_rate: float
    """Cached prompt tokens over prompt tokens, 0..1."""
    prefill_tokens_computed: int
    requests: int
    """All that were sent, errors included."""
    errors: int


def summarise(calls: Sequence[Call]) -> Summary | None:
    """None as long as no call was answered: then there is nothing to take a mean of."""
    answered = [call for call in calls if not call.error]
    if not answered:
        return None
    prompt_tokens = sum(call.prompt_tokens for call in answered)
    cached_tokens = sum(call.cached_tokens for call in answered)
    ttft_s = sorted(call.ttft_s for call in answered)
    e2e_s = sorted(call.e2e_s for call in answered)
    return Summary(
        ttft_mean_s=sum(ttft_s) / len(ttft_s),
        ttft_p95_s=percentile(ttft_s, 0.95),
        e2e_mean_s=sum(e2e_s) / len(e2e_s),
        e2e_p95_s=percentile(e2e_s, 0.95),
        prefix_hit_rate=cached_tokens / prompt_tokens if prompt_tokens else 0.0,
        prefill_tokens_computed=prompt_tokens - cached_tokens,
        requests=len(calls),
        errors=len(calls) - len(answered),
    )


def percentile(ascending: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` of the values do not exceed (nearest rank)."""
    return ascending[max(0, math.ceil(share * len(ascending)) - 1)]


def requests_by_replica(calls: Sequence[Call]) -> dict[str, int]:
    """How many requests each replica got, by its name."""
    return dict(sorted(Counter(call.replica for call in calls if call.replica).items()))
