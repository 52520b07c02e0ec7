"""A policy: what a router is configured with, under a name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from flow.gates.step_budget import StepBudget
from router.config import ProfileConfig
from router.core.flow import Admission, Flow, Order
from router.core.programs.tracker import Programs
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


def in_order(
    make_order: Callable[[], Order], make_admission: Callable[[], Admission] | None = None
) -> Callable[[World], Flow]:
    """What the fleet cannot start usefully waits in this order: the gate is the same for all orders to compare."""

    def make_flow(world: World) -> Flow:
        return Flow(make_order(), gate_of(world), None if make_admission is None else make_admission())

    return make_flow


def gate_of(world: World) -> StepBudget:
    """Weft's gate, told of the engine's step."""
    return StepBudget(max_num_batched_tokens=world.engine.max_num_batched_tokens)


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
    hints: str | None = None
    """The hints that it cannot do without, by their name in `sim.workloads.hints`. None: it takes what clients tell."""

    follows_programs: bool = False
    """Whether the router keeps the programs' graphs and estimates."""

    def make_router(self, world: World, seed: int) -> Router:
        if self.profile is None:
            config = shipped_profiles()["default"]
        else:
            config = ProfileConfig.model_validate(self.profile)
        programs = Programs() if self.follows_programs else None
        profiles = {"default": make_profile(self.name, config)}
        return Router(profiles, seed=seed, flow=self.make_flow(world), programs=programs)
