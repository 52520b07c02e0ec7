"""Pool splits: how many replicas compute prompts and how many answer."""

from __future__ import annotations

from typing import NamedTuple

from router.core.disaggregation.demand import TARGET
from router.core.types import Role
from sim.advise.demand import Demand


class Split(NamedTuple):
    """Both 0: every replica does both."""

    prefill: int
    decode: int

    def __str__(self) -> str:
        return f"{self.prefill} + {self.decode}" if self.prefill else "all both"


ALL_BOTH = Split(0, 0)


def propose(demand: Demand, replicas: int) -> Split:
    """The split under which the busier of the two pools is least so, each measured by how busy it should be."""

    def strain(prefill: int) -> float:
        return max(
            demand.prefill / prefill / TARGET[Role.PREFILL],
            demand.decode / (replicas - prefill) / TARGET[Role.DECODE],
        )

    prefill = min(range(1, replicas), key=strain)
    return Split(prefill, replicas - prefill)


def neighbours(split: Split) -> list[Split]:
    """One replica more or less for prefill, where there is one left for each."""
    prefill, decode = split
    moved = (Split(prefill - 1, decode + 1), Split(prefill + 1, decode - 1))
    return [each for each in moved if each.prefill and each.decode]
