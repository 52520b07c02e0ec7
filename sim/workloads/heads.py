"""What prompts of a deployed agent begin with: its tool definitions and system prompt, the same in all programs."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

from sim.workloads.draw import Distribution
from sim.workloads.program import Context, Part


def make_heads(
    count: int, tools_tokens: Distribution, system_tokens: Distribution, rng: Random, streams: Iterator[int]
) -> list[tuple[Part, ...]]:
    """One head for each of ``count`` agents. Tool definitions come first, as chat templates put them."""
    if count < 1:
        raise ValueError(f"there must be at least one agent, not {count}")
    return [_head(tools_tokens.whole(rng), system_tokens.whole(rng), streams) for _ in range(count)]


def _head(tools_tokens: int, system_tokens: int, streams: Iterator[int]) -> tuple[Part, ...]:
    tools = Part(Context.TOOLS, next(streams), tools_tokens)
    system = Part(Context.SYSTEM, next(streams), system_tokens)
    return tuple(part for part in (tools, system) if part.tokens)


class Documents:
    """Large shared contexts (a repository, a case file). Some programs take up one that an earlier program had."""

    def __init__(self, tokens: Distribution, reuse: float, rng: Random, streams: Iterator[int]) -> None:
        if not 0 <= reuse <= 1:
            raise ValueError(f"reuse is a share of programs from 0 to 1, not {reuse}")
        self._tokens = tokens
        self._reuse = reuse
        self._rng = rng
        self._streams = streams
        self._made: list[Part] = []

    def draw(self) -> Part:
        again, which, tokens = self._rng.random(), self._rng.random(), max(1, self._tokens.whole(self._rng))
        if again < self._reuse and self._made:
            return self._made[int(which * len(self._made))]
        self._made.append(Part(Context.SHARED, next(self._streams), tokens))
        return self._made[-1]
