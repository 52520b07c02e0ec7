"""The jobs of a grid: every workload under every policy at every load, with every seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from sim.bench.job import Job, Setting
from sim.bench.source import Source

CURVE_SIZES = (0.25, 0.5, 2.0, 4.0)
"""Caches that the curves are made with, besides the fleet's own, as multiples of it."""


@dataclass(slots=True, frozen=True)
class Grid:
    setting: Setting
    sources: Sequence[Source]
    policies: Sequence[str]
    loads: Sequence[float | None]
    seeds: int
    cache_blocks: Sequence[int | None]
    """Of each replica; the first is the fleet's own. None: unbounded."""

    @property
    def report_load(self) -> float | None:
        """The load at which curves and Gantt charts are made: the one in the middle."""
        return sorted(self.loads, key=lambda load: load or 0.0)[len(self.loads) // 2]

    def row_jobs(self) -> list[Job]:
        """In the order of the rows."""
        return [
            Job(self.setting, source, policy, load, seed, blocks)
            for source in self.sources
            for blocks in self.cache_blocks
            for load in self.loads
            for policy in self.policies
            for seed in range(1, self.seeds + 1)
        ]

    def is_followed(self, job: Job) -> bool:
        """Whether a program of this job can be drawn."""
        return (
            not job.setting.cache_only
            and not job.for_curve
            and (job.load, job.seed, job.cache_blocks) == (self.report_load, 1, self.cache_blocks[0])
        )

    def curve_jobs(self) -> list[Job]:
        """One seed at one load, with other caches than those of the rows. None where rows have several sizes."""
        if self.setting.cache_only or len(self.cache_blocks) > 1 or self.cache_blocks[0] is None:
            return []
        return [
            Job(self.setting, source, policy, self.report_load, 1, blocks, for_curve=True)
            for source in self.sources
            for blocks in self._curve_sizes(self.cache_blocks[0])
            for policy in self.policies
        ]

    def _curve_sizes(self, own_blocks: int) -> list[int]:
        """Those in which every request has room."""
        engine = self.setting.engine
        sizes = [round(own_blocks * size) for size in CURVE_SIZES]
        return [size for size in sizes if size * engine.block_size_tokens >= engine.max_model_len_tokens]
