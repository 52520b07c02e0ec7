"""The replicas' network interfaces: KV blocks on their way share the ones that they leave and enter.

A transfer gets an equal share of the interface that it leaves and of the one that it enters, whichever is less. What it
cannot use of the other is not given to anybody else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from sim.cluster.timeline import Timeline

_ROUNDING_BYTES = 1.0


@dataclass(slots=True, eq=False)
class _Transfer:
    source: int
    target: int
    left_bytes: float
    arrived: Callable[[], None]
    rate: float = 0.0


class Interfaces:
    """One for each replica, equally fast in each direction."""

    def __init__(self, timeline: Timeline, bandwidth_bytes_per_s: float) -> None:
        self._timeline = timeline
        self._bandwidth = bandwidth_bytes_per_s
        self._transfers: list[_Transfer] = []
        self._seen_s = 0.0
        self._plans = 0

    def send(self, source: int, target: int, size_bytes: float, arrived: Callable[[], None]) -> None:
        """``arrived`` is called when the last byte is there."""
        self._move()
        self._transfers.append(_Transfer(source, target, size_bytes, arrived))
        self._plan()

    def _move(self) -> None:
        """Bytes go on until now."""
        passed_s, self._seen_s = self._timeline.now - self._seen_s, self._timeline.now
        for transfer in self._transfers:
            transfer.left_bytes -= transfer.rate * passed_s

    def _plan(self) -> None:
        """Share the interfaces among those under way, and wake when the first of them arrives."""
        leaving = Counter(transfer.source for transfer in self._transfers)
        entering = Counter(transfer.target for transfer in self._transfers)
        for transfer in self._transfers:
            transfer.rate = self._bandwidth / max(leaving[transfer.source], entering[transfer.target])
        self._plans += 1
        if self._transfers:
            first_s = min(max(transfer.left_bytes, 0.0) / transfer.rate for transfer in self._transfers)
            self._timeline.after(first_s, self._arrive, self._plans)

    def _arrive(self, plan: int) -> None:
        if plan != self._plans:
            return
        self._move()
        there = [transfer for transfer in self._transfers if transfer.left_bytes <= _ROUNDING_BYTES]
        self._transfers = [transfer for transfer in self._transfers if transfer.left_bytes > _ROUNDING_BYTES]
        self._plan()
        for transfer in there:
            transfer.arrived()
