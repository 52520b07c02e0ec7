"""How quickly a replica prefills, learned from the answers that it gives.

Time to first token is taken as ``overhead + tokens / rate``, where tokens counts the prompt tokens that had to be
computed first: those queued before the request and its own uncached ones. Both parameters come from a least-squares
line through the observations, older ones fading out.
"""

from __future__ import annotations

from dataclasses import dataclass

PRIOR_TOKENS_PER_S = 10_000.0
"""Before anything was seen: a small model on one recent GPU. Only ratios between replicas matter then."""

_FADE = 0.97
_MIN_TOKENS_PER_S = 50.0
_MAX_TOKENS_PER_S = 10_000_000.0


@dataclass(slots=True)
class PrefillRate:
    """Running sums of one replica's (tokens, seconds) observations."""

    weight: float = 0.0
    tokens: float = 0.0
    seconds: float = 0.0
    tokens_sq: float = 0.0
    tokens_seconds: float = 0.0

    def observe(self, tokens: int, seconds: float) -> None:
        """An answer began ``seconds`` after dispatch, with ``tokens`` to compute before it."""
        self.weight = self.weight * _FADE + 1.0
        self.tokens = self.tokens * _FADE + tokens
        self.seconds = self.seconds * _FADE + seconds
        self.tokens_sq = self.tokens_sq * _FADE + tokens * tokens
        self.tokens_seconds = self.tokens_seconds * _FADE + tokens * seconds

    @property
    def known(self) -> bool:
        return self.weight >= 3.0 and self.tokens > 0.0

    def tokens_per_s(self) -> float:
        """Slope of the line, or the plain mean while all observations look alike."""
        covariance = self.weight * self.tokens_seconds - self.tokens * self.seconds
        variance = self.weight * self.tokens_sq - self.tokens * self.tokens
        spread_enough = variance > 0.05 * self.tokens * self.tokens
        if spread_enough and covariance > 0.0:
            rate = variance / covariance
        else:
            rate = self.tokens / max(self.seconds, 1e-6)
        return min(max(rate, _MIN_TOKENS_PER_S), _MAX_TOKENS_PER_S)
