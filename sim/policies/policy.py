"""A policy: what a router is configured with, under a name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from flow.gates.step_budget import StepBudget
from flow.registry import make_rule
from router.config import DisaggregationConfig, ProfileConfig
from router.core.disaggregation.rule import Rule
from router.core.disaggregation.settings import Disaggregation
from router.core.flow import Admission, Flow, Order
from router.core.programs.tracker import Programs
from router.core.router import Router
from router.core.scheduler import Profile
from router.profiles import make_profile, shipped_profiles
from sim.engine import EngineConfig
from sim.workloads.program import Program


@dataclass(slots=True, frozen=True)
class World:
    """The run that a policy is used in. Only an oracle looks at the programs."""

    programs: Sequence[Program]
    engine: EngineConfig
    replicas: int
    kv_bytes_per_token: int | None = None
    """What an operator tells the router; None: nothing."""


def no_queue(world: World) -> Flow:
    """Everything leaves at once."""
    return Flow()


def shipped_rule() -> Rule:
    """Weft's own, by which it disaggregates unless told otherwise."""
    rule = DisaggregationConfig().rule
    return make_rule(rule.name, rule.parameters)


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
    make_rule: Callable[[], Rule] | None = None
    """Whether another replica computes a prompt, in a fleet with roles. None: none ever does."""
    prefill_profile: Mapping[str, object] | None = None
    """Which one does, as in a configuration file. None: Weft's."""
    needs_roles: bool = False
    """It is about prefill and decode replicas: without such it is some other policy under another name."""

    def make_router(self, world: World, seed: int) -> Router:
        programs = Programs() if self.follows_programs else None
        profiles = {"default": _profile(self.name, "default", self.profile)}
        return Router(
            profiles,
            seed=seed,
            flow=self.make_flow(world),
            programs=programs,
            disaggregation=self._disaggregation(world),
        )

    def _disaggregation(self, world: World) -> Disaggregation | None:
        if self.make_rule is None:
            return None
        profile = _profile(f"{self.name} prefill", "prefill", self.prefill_profile)
        told = {} if world.kv_bytes_per_token is None else {"*": world.kv_bytes_per_token}
        return Disaggregation(self.make_rule(), profile, bytes_per_token=told)


def _profile(name: str, shipped: str, given: Mapping[str, object] | None) -> Profile:
    """The one given, or else the shipped one."""
    config = shipped_profiles()[shipped] if given is None else ProfileConfig.model_validate(given)
    return make_profile(name, config)
