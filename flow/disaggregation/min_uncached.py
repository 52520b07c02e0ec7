"""Computes a prompt elsewhere when the decode replica would have to compute many tokens of it.

The plain rule of most routers: llm-d's prefix-based decider, vLLM router's bypass.
"""

from __future__ import annotations

from router.core.disaggregation.rule import Ways


class MinUncached:
    name = "min-uncached"
    splits = True

    def __init__(self, min_uncached_tokens: int = 512) -> None:
        self._min_uncached_tokens = min_uncached_tokens

    def disaggregates(self, ways: Ways) -> bool:
        return ways.here.uncached_tokens >= self._min_uncached_tokens
