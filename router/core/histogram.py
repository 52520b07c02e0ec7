"""A histogram that costs one binary search per value; telemetry turns it into Prometheus' form when asked."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

LATENCY_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0, 150.0, 600.0)


class Histogram:
    """Counts of values at most as large as each of ``bounds``, and of those above."""

    __slots__ = ("_counts", "bounds", "total")

    def __init__(self, bounds: tuple[float, ...] = LATENCY_BOUNDS_S) -> None:
        self.bounds = bounds
        self.total = 0.0
        self._counts = [0] * (len(bounds) + 1)

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def cumulative(self) -> Iterator[tuple[str, float]]:
        """(upper bound, count of values up to it), the last bound being ``+Inf``."""
        count = 0
        for bound, here in zip((*self.bounds, float("inf")), self._counts, strict=True):
            count += here
            yield ("+Inf" if bound == float("inf") else str(bound)), count
