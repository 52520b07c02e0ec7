"""What programs want a replica's KV cache to hold, with what they have in common counted once.

Prompts are cut into stretches of some blocks each, told by the hash of their last block. Hashes are chained: whoever
wants a stretch wants all before it, so that bisection finds where two prompts part.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
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
    return chain.hashes[size][STRETCH_BLOCKS - 1 :: STRETCH_BLOCKS].tolist(), size * STRETCH_BLOCKS


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
        before = len(self._wanted)
        self._wanted.update(stretches)
        self.tokens += (len(self._wanted) - before) * size_tokens
        self.version += 1

    def remove(self, stretches: Stretches, size_tokens: int) -> None:
        wanted = self._wanted
        kept = bisect_left(stretches, True, key=lambda stretch: wanted[stretch] == 1)
        for stretch in stretches[:kept]:
            wanted[stretch] -= 1
        for stretch in stretches[kept:]:
            del wanted[stretch]
        self.tokens -= (len(stretches) - kept) * size_tokens
        self.version += 1

    def missing(self, stretches: Stretches) -> int:
        """How many of them nobody wants yet."""
        wanted = self._wanted
        return len(stretches) - bisect_left(stretches, True, key=lambda stretch: stretch not in wanted)

    def freed(self, stretches: Stretches, taken: Counter[int]) -> int:
        """How many of them, all of which are wanted, nobody wants any more when one who does gives up, as well as those
        in ``taken``, to which it is added. What is freed has nobody else who would look for it there."""
        wanted = self._wanted
        kept = bisect_left(stretches, True, key=lambda stretch: wanted[stretch] - taken.get(stretch, 0) == 1)
        taken.update(stretches[:kept])
        return len(stretches) - kept
