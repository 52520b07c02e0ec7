"""One run of the grid: what varies between runs, and what all of them have in common."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from router.core.types import Role
from sim.bench.measure import Slo
from sim.bench.source import Source
from sim.engine import EngineConfig, TransferModel

Key = tuple[str, str, float | None, int, int | None]
"""Workload, policy, load, seed and cache size: which row it is."""


class Arriving(StrEnum):
    """When programs arrive."""

    POISSON = "poisson"
    BURSTS = "bursts"
    TRACE = "trace"
    """At the times that the trace file says; with a load, all of them scaled."""


@dataclass(slots=True, frozen=True)
class Setting:
    """What all runs have in common."""

    engine: EngineConfig
    replicas: int = 8
    """Those of both roles included."""
    prefill: int = 0
    """Replicas that only compute prompts for others."""
    decode: int = 0
    """Replicas that answer; the ones that are neither do both."""
    transfer: TransferModel | None = None
    """Of KV blocks between replicas, in a fleet with roles."""
    transfer_failures: float = 0.0
    """Share of transfers that fail."""
    routers: int = 1
    arrivals: Arriving = Arriving.POISSON
    in_flight: int | None = None
    """Programs at a time, in a closed loop. None: they come by themselves."""
    hints: str = "full"
    hint_share: float | None = None
    slo: Slo = field(default_factory=Slo)
    warm_up: float = 0.3
    """Share of the programs that come first: their times do not count."""
    cool_down: float = 0.1
    """Share of those that come last."""
    cache_only: bool = False
    """Without time."""

    @property
    def roles(self) -> tuple[Role, ...]:
        both = self.replicas - self.prefill - self.decode
        return (Role.PREFILL,) * self.prefill + (Role.DECODE,) * self.decode + (Role.BOTH,) * both


@dataclass(slots=True, frozen=True)
class Job:
    setting: Setting
    source: Source
    policy: str
    load: float | None
    """None: as the trace says, or in a closed loop."""
    seed: int
    cache_blocks: int | None
    """Of each replica. None: unbounded."""
    for_curve: bool = False
    """Only its hit rate is wanted."""
    follows: bool = False
    """One of its programs is wanted step by step."""

    @property
    def key(self) -> Key:
        return self.source.name, self.policy, self.load, self.seed, self.cache_blocks
