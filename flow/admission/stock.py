"""What programs want a replica's KV cache to hold, with what they have in common counted once.

Prompts are cut into stretches of some blocks each, told by the hash of their last block. Hashes are chained: whoever
wants a stretch wants all before it, so that bisection finds where two prompts part.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from router.core.prefix import Chain

STRETCH_BLOCKS = 16

Stretches = Sequence[int]
"""Of a prompt, from its start; the rest that fills no stretch is counted apart."""


def cut(chain: Chain | None) -> tuple[Stretches, int]:
    """A prompt's stretches, and their size in tokens."""
    if chain is None or not chain.hashes:
        return (), 0
    size = min(chain.hashes)
    return tuple(chain.hashes[size][STRETCH_BLOCKS - 1 :: STRETCH_BLOCKS].tolist()), size * STRETCH_BLOCKS


@dataclass(slots=True)
class Stock:
    """Of one replica."""

    tokens: float = 0.0
    """All that is wanted."""
    version: int = 0
    """Counts the changes."""
    _wanted: Counter[int] = field(default_factory=Counter)
    """How many want each stretch."""

    def add(self, stretches: Stretches, size_tokens: int) -> None:
        self.version += 1
        if not stretches:
            return
        before = len(self._wanted)
        self._wanted.update(stretches)
        self.tokens += (len(self._wanted) - before) * size_tokens

    def remove(self, stretches: Stretches, size_tokens: int) -> None:
        self.version += 1
        if not stretches:
            return
        wanted = self._wanted
        kept = bisect_left(stretches, True, key=lambda stretch: wanted[stretch] == 1)
        for stretch in stretches[:kept]:
            wanted[stretch] -= 1
        for stretch in stretches[kept:]:
            del wanted[stretch]
        self.tokens -= (len(stretches) - kept) * size_tokens

    def missing(self, stretches: Stretches) -> int:
        """How many of them nobody wants yet."""
        if not stretches:
            return 0
        wanted = self._wanted
        return len(stretches) - bisect_left(stretches, True, key=lambda stretch: stretch not in wanted)

    def kept(self, stretches: Stretches, taken: Mapping[int, int]) -> int:
        """How many of them, all of which are wanted, somebody wants still when one who does gives up, as well as those
        who are counted in ``taken``."""
        if not stretches:
            return 0
        wanted = self._wanted
        return bisect_left(stretches, True, key=lambda stretch: wanted[stretch] - taken.get(stretch, 0) == 1)


def common(one: Stretches, other: Stretches) -> int:
    """How many stretches two prompts begin with together."""
    shorter = min(len(one), len(other))
    if not shorter or one[0] != other[0]:
        return 0
    return bisect_left(range(shorter), True, key=lambda index: one[index] != other[index])
