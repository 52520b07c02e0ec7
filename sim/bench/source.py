"""Where the programs of a run come from: a generated workload, or a recorded trace."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sim.workloads.program import Program
from sim.workloads.registry import make_workload
from sim.workloads.traces import load_trace
from sim.workloads.traces.lines import Trace

_PROGRAMS_PER_REPLICA = {
    "tot": 6,
    "react": 40,
    "swarm": 15,
    "pipeline": 15,
    "mixed": 20,
    "chat": 300,
    "uniform": 250,
    "shared-prefix": 250,
}
"""So that programs go on arriving for two or three times as long as one of them takes, and a run takes seconds."""
_OTHERWISE_PER_REPLICA = 20


@dataclass(slots=True, frozen=True)
class Generated:
    name: str
    count: int
    """Programs."""
    parameters: tuple[tuple[str, Any], ...] = ()

    def make(self, seed: int) -> list[Program]:
        return make_workload(self.name, seed, self.count, **dict(self.parameters))


@dataclass(slots=True, frozen=True)
class Recorded:
    name: str
    path: str
    format: str
    count: int | None = None
    """The first so many programs; None: all."""

    def make(self, seed: int) -> list[Program]:
        return self.read(seed).programs[: self.count]

    @lru_cache(maxsize=1)  # noqa: B019 - sources are few, small values, and their traces are wanted once more at once.
    def read(self, seed: int) -> Trace:
        """The trace, with a count of what in it could not be used."""
        return load_trace(self.path, self.format, seed)


Source = Generated | Recorded


@lru_cache(maxsize=2)
def programs_of(source: Source, seed: int) -> tuple[Program, ...]:
    """The programs with their own times, if they have any. Raises ValueError for a name, parameter or file that cannot
    be used."""
    return tuple(source.make(seed))


def default_count(workload: str, replicas: int) -> int:
    """How many programs a run of a generated workload has unless told otherwise."""
    return replicas * _PROGRAMS_PER_REPLICA.get(workload, _OTHERWISE_PER_REPLICA)
