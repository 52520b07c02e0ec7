"""How many replicas prefilling and decoding would keep busy, so that whoever scales the pools knows their split.

    prefill = prompt tokens to compute / prefill rate, per second
    decode  = tokens held while answering / KV capacity of a replica

both averaged over about a minute. Decoding is counted by memory: it is what fills first, and a replica whose memory is
not full can answer more at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, exp

from router.core.types import Role

WINDOW_S = 60.0

TARGET = {Role.PREFILL: 0.6, Role.DECODE: 0.8}
"""How busy replicas should be: a prefill queue grows without bounds near 1, memory must take bursts."""


@dataclass(slots=True)
class Average:
    """Of a rate, older seconds fading out."""

    value: float = 0.0
    updated_s: float | None = None

    def add(self, amount: float, now: float) -> None:
        self.value = self.at(now) + amount / WINDOW_S
        self.updated_s = now

    def at(self, now: float) -> float:
        return 0.0 if self.updated_s is None else self.value * exp((self.updated_s - now) / WINDOW_S)


class Demand:
    """Of the fleet, in replicas kept busy."""

    def __init__(self) -> None:
        self._busy = {role: Average() for role in TARGET}

    def add(self, role: Role, replica_seconds: float, now: float) -> None:
        """Work of a leg that takes one replica for so long."""
        self._busy[role].add(replica_seconds, now)

    def replicas(self, role: Role, now: float) -> float:
        """Kept busy by that leg."""
        return self._busy[role].at(now)

    def wanted(self, role: Role, now: float) -> int:
        """Replicas that should be there for that leg: at least one."""
        return max(1, ceil(self.replicas(role, now) / TARGET[role]))
