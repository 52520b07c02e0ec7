"""How many calls programs of a class make, learned while they run: how many are likely left after the n-th.

Of the programs that made an n-th call, how many went on to an m-th? That needs no program to have ended, which matters
where nobody says that one has: an agent's session is only ever quiet. Programs under way count as if they went no
further; as they go on, their class's figures do.
"""

from __future__ import annotations

from bisect import bisect_right
from operator import mul

from router.core.programs.sketch import FADE

_EXACT = 16
_PER_OCTAVE = 8
_OCTAVES = 8


def _starts() -> tuple[int, ...]:
    """First call of each bucket: 1, 2, .., 16, then 8 buckets to each doubling, up to 4,096."""
    above = (_EXACT * 2**octave for octave in range(_OCTAVES))
    coarse = [first + first * part // _PER_OCTAVE for first in above for part in range(_PER_OCTAVE)]
    return (*range(1, _EXACT), *coarse)


_STARTS = _starts()
_WIDTHS = tuple(after - start for start, after in zip(_STARTS, (*_STARTS[1:], _STARTS[-1] + 1), strict=True))
_WORTHS = tuple(1 + (before - 1) / 2 + (width - 1) / 2 for before, width in zip((1, *_WIDTHS), _WIDTHS, strict=False))
"""Calls that a program makes in a bucket and half of those around it, as weights fall in straight lines in between."""
_HEAVIEST = 1e12


class Lengths:
    """Of the programs of one class, counted in calls; the last hundred programs or so weigh."""

    __slots__ = ("_newest", "_reached")

    def __init__(self) -> None:
        self._reached: list[float] = []
        """Weight of the programs that made the first call of each bucket."""
        self._newest = 1.0

    def add(self, call: int) -> None:
        """A program made its ``call``-th call, counted from 1."""
        if call == 1:
            self._newest /= FADE
            if self._newest > _HEAVIEST:
                self._reached = [weight / self._newest for weight in self._reached]
                self._newest = 1.0
        bucket = bisect_right(_STARTS, call) - 1
        if _STARTS[bucket] != call:
            return
        if bucket == len(self._reached):
            self._reached.append(0.0)
        if bucket < len(self._reached):
            self._reached[bucket] += self._newest

    def observations(self, calls: int) -> float:
        """How many programs that made as many calls are known."""
        bucket = bisect_right(_STARTS, max(calls, 1)) - 1
        return self._reached[bucket] / self._newest if bucket < len(self._reached) else 0.0

    def expected_after(self, calls: int) -> float:
        """Calls that a program which made ``calls`` will still make, on average."""
        calls = max(calls, 1)
        bucket = bisect_right(_STARTS, calls) - 1
        reached = [*self._reached[bucket:], 0.0]
        if reached[0] <= 0.0:
            return 0.0
        rest = _STARTS[bucket] + _WIDTHS[bucket] - 1 - calls
        here = rest * (reached[0] + reached[1]) / 2
        later: float = sum(map(mul, reached[1:], _WORTHS[bucket + 1 :])) - reached[1] * (_WIDTHS[bucket] - 1) / 2
        return (here + later) / reached[0]

    def quantile_after(self, calls: int, share: float) -> int:
        """Calls that ``share`` of the programs which made ``calls`` do not exceed from there on."""
        bucket = bisect_right(_STARTS, max(calls, 1)) - 1
        reached = self._reached
        if bucket >= len(reached):
            return 0
        going_on = (1.0 - share) * reached[bucket]
        while bucket + 1 < len(reached) and reached[bucket + 1] > going_on:
            bucket += 1
        return max(_STARTS[bucket] - calls, 0)
