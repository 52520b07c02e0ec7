"""How quickly replicas prefill and decode, learned from the answers that they give.

Time to first token is taken as ``overhead + tokens / rate``, where tokens counts the prompt tokens that had to be
computed first: those queued before the request and its own uncached ones. Both parameters come from a least-squares
line through the observations, older ones fading out.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from router.core.line import Line

PRIOR_TOKENS_PER_S = 10_000.0
"""Before anything was seen: a small model on one recent GPU. Only ratios between replicas matter then."""

_FADE = 0.97
_MIN_TOKENS_PER_S = 50.0
_MAX_TOKENS_PER_S = 10_000_000.0


@dataclass(slots=True)
class PrefillRate:
    """Of one replica."""

    line: Line = field(default_factory=Line)
    """Seconds by tokens."""

    def observe(self, tokens: int, seconds: float) -> None:
        """An answer began ``seconds`` after dispatch, with ``tokens`` to compute before it."""
        self.line.observe(tokens, seconds)

    @property
    def known(self) -> bool:
        return self.line.known

    def tokens_per_s(self) -> float:
        return min(max(1.0 / self.line.slope(), _MIN_TOKENS_PER_S), _MAX_TOKENS_PER_S)


PRIOR_OUTPUT_TOKEN_S = 0.02
"""Before anything was seen: 50 tokens a second, a mid-sized model on one recent GPU."""

_MIN_OUTPUT_TOKEN_S = 1e-5
_MAX_OUTPUT_TOKEN_S = 10.0


@dataclass(slots=True)
class DecodeRate:
    """Running sums of (output tokens, seconds) of streamed answers, older ones fading out."""

    tokens: float = 0.0
    seconds: float = 0.0

    def observe(self, tokens: int, seconds: float) -> None:
        """``tokens`` output tokens followed the first one within ``seconds``."""
        self.tokens = self.tokens * _FADE + tokens
        self.seconds = self.seconds * _FADE + seconds

    def output_token_s(self) -> float:
        """Seconds from one output token to the next."""
        if self.tokens <= 0.0:
            return PRIOR_OUTPUT_TOKEN_S
        return min(max(self.seconds / self.tokens, _MIN_OUTPUT_TOKEN_S), _MAX_OUTPUT_TOKEN_S)


@dataclass(slots=True)
class FleetRates:
    """How quickly the fleet as a whole works."""

    prefill_tokens_per_s: float = PRIOR_TOKENS_PER_S
    """Of a usual replica; whoever learns the replicas' rates sets it."""
    decode: DecodeRate = field(default_factory=DecodeRate)

    def call_s(self, uncached_tokens: float, output_tokens: float) -> float:
        """Seconds that a replica with nothing else to prefill takes for a call."""
        return uncached_tokens / self.prefill_tokens_per_s + output_tokens * self.decode.output_token_s()
