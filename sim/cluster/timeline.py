"""Virtual time: calls that are due, earliest first."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any


class Timeline:
    """Calls due at the same moment are made in the order in which they were planned, so a run repeats exactly."""

    __slots__ = ("_calls", "_planned", "now")

    def __init__(self) -> None:
        self.now = 0.0
        """Seconds since the start of the run."""
        self._calls: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._planned = 0

    def at(self, time_s: float, call: Callable[..., None], *args: Any) -> None:
        """Plan a call. What is already past is made now."""
        self._planned += 1
        heappush(self._calls, (max(time_s, self.now), self._planned, call, args))

    def after(self, delay_s: float, call: Callable[..., None], *args: Any) -> None:
        self.at(self.now + delay_s, call, *args)

    def run(self) -> None:
        """Until nothing is planned any more."""
        calls = self._calls
        while calls:
            self.now, _, call, args = heappop(calls)
            call(*args)
