"""What one request took, and what many took together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(slots=True, frozen=True)
class Call:
    """One answered or failed request, as its client saw it."""

    ttft_s: float = 0.0
    """From sending the request to the first text of the answer."""
    prompt_tokens: int = 0
    cached_tokens: int = 0
    """Of the prompt, as the replica reports: what it did not have to compute."""
    sent_tokens: int = 0
    """Of the prompt, how much its program had sent before."""
    answer: str = ""
    error: str = ""
    """Empty when all went well."""


@dataclass(slots=True, frozen=True)
class Summary:
    """Figures over all calls and programs of one run. Times and tokens are those of answered requests."""

    program_mean_s: float
    """From its start to the end of its last answer; 0.0 as long as none is complete."""
    program_p95_s: float
    ttft_mean_s: float
    ttft_p95_s: float
    prefix_hit_rate: float
    """Cached prompt tokens over prompt tokens, 0..1."""
    prefill_tokens_computed: int
    recomputed_tokens: int
    """Of those, what the same program had sent before."""
    programs: int
    """Those that are complete."""
    requests: int
    """All that were sent, errors included."""
    errors: int


def summarise(calls: Sequence[Call], programs_s: Sequence[float] = ()) -> Summary | None:
    """``programs_s``: what complete programs took. None as long as no call was answered."""
    answered = [call for call in calls if not call.error]
    if not answered:
        return None
    prompt_tokens = sum(call.prompt_tokens for call in answered)
    cached_tokens = sum(call.cached_tokens for call in answered)
    ttft_s = sorted(call.ttft_s for call in answered)
    programs_s = sorted(programs_s)
    return Summary(
        program_mean_s=sum(programs_s) / len(programs_s) if programs_s else 0.0,
        program_p95_s=percentile(programs_s, 0.95) if programs_s else 0.0,
        ttft_mean_s=sum(ttft_s) / len(ttft_s),
        ttft_p95_s=percentile(ttft_s, 0.95),
        prefix_hit_rate=cached_tokens / prompt_tokens if prompt_tokens else 0.0,
        prefill_tokens_computed=prompt_tokens - cached_tokens,
        recomputed_tokens=sum(max(0, call.sent_tokens - call.cached_tokens) for call in answered),
        programs=len(programs_s),
        requests=len(calls),
        errors=len(calls) - len(answered),
    )


def percentile(ascending: Sequence[float], share: float) -> float:
    """The smallest value that at least ``share`` of the values do not exceed (nearest rank)."""
    return ascending[max(0, math.ceil(share * len(ascending)) - 1)]
