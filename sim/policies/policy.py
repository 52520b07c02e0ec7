"""A policy: what a router is configured with, under a name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from router.config import ProfileConfig
from router.core.flow import Flow
from router.core.router import Router
from router.profiles import make_profile, shipped_profiles
from sim.engine import EngineConfig
from sim.workloads.program import Program


@dataclass(slots=True, frozen=True)
class World:
    """The run that a policy is used in. Only an oracle looks at the programs."""

    programs: Sequence[Program]
    engine: EngineConfig
    replicas: int


def no_queue(world: World) -> Flow:
    """Everything leaves at once."""
    return Flow()


@dataclass(slots=True, frozen=True)
class Policy:
    name: str
    line: str
    """What it does, in a line."""
    profile: Mapping[str, object] | None = None
    """As in a configuration file. None: the default one."""
    make_flow: Callable[[World], Flow] = no_queue
    kv_events: bool = True
    """False: its project routes by what it sent itself, without the replicas' KV events."""

    def make_router(self, world: World, seed: int) -> Router:
        if self.profile is None:
            config = shipped_profiles()["default"]
        else:
            config = ProfileConfig.model_validate(self.profile)
        return Router({"default": make_profile(self.name, config)}, seed=seed, flow=self.make_flow(world))
