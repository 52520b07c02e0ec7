"""Mixed: trees of thought, ReAct agents, swarms and pipelines on one fleet."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from sim.workloads.pipeline import Pipeline
from sim.workloads.program import Program
from sim.workloads.react import React
from sim.workloads.swarm import Swarm
from sim.workloads.tot import TreeOfThought


@dataclass(slots=True, frozen=True)
class Mixed:
    """The four workloads with their own defaults. The shares are of programs and chosen: most programs are loops of one
    agent, so that large and small ones meet."""

    tot: TreeOfThought = TreeOfThought()
    react: React = React()
    swarm: Swarm = Swarm()
    pipeline: Pipeline = Pipeline()
    shares: tuple[float, float, float, float] = (0.1, 0.6, 0.1, 0.2)
    """Of tree of thought, ReAct, swarm and pipeline."""

    def __post_init__(self) -> None:
        if len(self.shares) != 4 or min(self.shares) < 0 or sum(self.shares) <= 0:
            raise ValueError(f"shares are four numbers from 0 up, at least one above 0, not {self.shares}")

    def programs(self, seed: int, streams: Iterator[int]) -> Iterator[Program]:
        kinds = [each.programs(seed, streams) for each in (self.tot, self.react, self.swarm, self.pipeline)]
        rng = Random(f"{seed}/mixed")
        while True:
            yield next(rng.choices(kinds, self.shares)[0])
