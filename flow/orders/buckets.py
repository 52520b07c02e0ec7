"""Engine priorities: a few buckets of expected cost, relative to what calls of this fleet usually cost.

    bucket = 4 + floor(log2(cost / usual))    from 0 to 7, lower goes first

``usual`` is the geometric mean of the last hundred calls or so. So a bucket is a factor of two, the usual cost begins
the fifth, what costs less than an eighth of it is in the first and what costs eight times as much in the last, whatever
the model and however quick it is.
"""

from __future__ import annotations

from math import floor, log2

from router.core.programs.history import Mean

BUCKETS = 8
USUAL = 4


class Buckets:
    """Learns what is usual."""

    def __init__(self) -> None:
        self._octaves = Mean()

    def learn(self, cost_s: float) -> None:
        """A call left whose program is expected to cost so much; 0 says nothing."""
        if cost_s > 0.0:
            self._octaves.add(log2(cost_s))

    def of(self, cost_s: float) -> int:
        """Of a program that is expected to cost so much. Before anything was learned, all are usual."""
        if cost_s <= 0.0:
            return 0
        if not self._octaves.observations:
            return USUAL
        return min(max(USUAL + floor(log2(cost_s) - self._octaves.mean()), 0), BUCKETS - 1)
