"""The largest value among steps whose values change: a heap that forgets outdated entries when they come up."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from router.core.programs.step import Step

_FEW = 8


class Peak:
    """Entries (-value, number of the step, step). O(log entries) amortised."""

    __slots__ = ("_current", "_entries", "_tidy_at")

    def __init__(self, current: Callable[[Step], float]) -> None:
        """``current`` tells a step's value."""
        self._current = current
        self._entries: list[tuple[float, int, Step]] = []
        self._tidy_at = _FEW

    def note(self, step: Step) -> None:
        """The step's value has changed. That a value has become 0 need not be told."""
        self.top()
        entries = self._entries
        heappush(entries, (-self._current(step), step.number, step))
        if len(entries) > self._tidy_at:
            valid = {entry[2]: entry for entry in entries if entry[0] == -self._current(entry[2])}
            entries[:] = valid.values()
            heapify(entries)
            self._tidy_at = max(_FEW, 2 * len(entries))

    def top(self) -> float:
        """The largest value of all; 0 when there is no step."""
        entries = self._entries
        while entries:
            value, _, step = entries[0]
            if value == -self._current(step):
                return -value
            heappop(entries)
        return 0.0
