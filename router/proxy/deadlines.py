"""One timer for all deadlines.

A request changes its deadline with every piece of its answer. An event-loop timer each would cost more than
the bytes; here moving a deadline is one attribute written, and all of them are looked at a few times a second.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

NEVER = float("inf")


class HasDeadline(Protocol):
    deadline_s: float
    """On the event loop's clock; ``NEVER`` when there is none."""

    def deadline_passed(self) -> None: ...


class Deadlines:
    """Calls ``deadline_passed`` on each item whose deadline lies in the past, every ``resolution_s``."""

    def __init__(self, resolution_s: float) -> None:
        self._resolution_s = resolution_s
        self._items: set[HasDeadline] = set()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, item: HasDeadline) -> None:
        self._items.add(item)
        if self._timer is None:
            self._arm()

    def discard(self, item: HasDeadline) -> None:
        self._items.discard(item)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._resolution_s, self._look)

    def _look(self) -> None:
        self._timer = None
        if self._items:
            self._arm()
        now = asyncio.get_running_loop().time()
        for item in [item for item in self._items if item.deadline_s <= now]:
            item.deadline_passed()
