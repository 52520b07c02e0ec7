"""Workloads by name."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from itertools import count as counting
from itertools import islice
from random import Random
from typing import Any, Protocol

from sim.workloads.arrivals import Arrivals, ClosedLoop, arrange
from sim.workloads.chat import Chat
from sim.workloads.mixed import Mixed
from sim.workloads.pipeline import Pipeline
from sim.workloads.program import Program
from sim.workloads.react import React
from sim.workloads.shared_prefix import SharedPrefix
from sim.workloads.swarm import Swarm
from sim.workloads.tot import TreeOfThought
from sim.workloads.uniform import Uniform


class Workload(Protocol):
    def programs(self, seed: int, streams: Iterator[int]) -> Iterator[Program]:
        """Programs without end, in an order that the seed fixes, all arriving at 0. ``streams`` yields identities of
        token streams that nothing else has."""


_WORKLOADS: dict[str, tuple[type[Any], str]] = {
    "tot": (TreeOfThought, "trees of thought: branches from 30-100k shared tokens, evaluated and joined at each level"),
    "react": (React, "agents in a tool loop: 10-30k of tool definitions, growing context, heavy-tailed tool waits"),
    "swarm": (Swarm, "a parent and 4-16 children over 90-95 % shared context, done when the slowest is"),
    "pipeline": (Pipeline, "several agents in stages that fork and join, output of one in the prompt of the next"),
    "mixed": (Mixed, "tot, react, swarm and pipeline together"),
    "chat": (Chat, "conversations with thinking people, fitted to Mooncake's trace"),
    "uniform": (Uniform, "single requests that share nothing"),
    "shared-prefix": (SharedPrefix, "llm-d's ladder: 150 groups of 5 prompts, 6000 + 1200 tokens in, 1000 out"),
}


def workload_names() -> list[str]:
    return list(_WORKLOADS)


def describe(name: str) -> str:
    """What the workload is, in a line. Raises ValueError when there is none of that name."""
    return _find(name)[1]


def default_workload(name: str) -> Workload:
    """The workload with the defaults of its parameters, which are its fields. Raises ValueError when there is none."""
    return _workload(name, {})


def make_workload(
    name: str, seed: int, count: int, arrivals: Arrivals | None = None, *, tenants: int = 4, **parameters: object
) -> list[Program]:
    """``count`` programs of a workload, arriving as ``arrivals`` says (all at once if not given).

    The first programs are the same however many follow and whenever they arrive. ``parameters`` are fields of the
    workload's class. Raises ValueError for a name, parameter or value that there is not, saying what there is.
    """
    if count < 1 or tenants < 1:
        raise ValueError(f"count and tenants must be at least 1, not {count} and {tenants}")
    made = islice(_workload(name, parameters).programs(seed, counting()), count)
    rng = Random(f"{seed}/tenants")
    owned = [replace(program, tenant=f"tenant-{rng.randrange(tenants)}") for program in made]
    return arrange(owned, arrivals or ClosedLoop(), seed)


def _workload(name: str, parameters: dict[str, object]) -> Workload:
    kind, _ = _find(name)
    known = [each.name for each in fields(kind)]
    if strange := sorted(set(parameters) - set(known)):
        raise ValueError(f"workload {name} has no parameter {', '.join(strange)}; it has {', '.join(known)}")
    made: Workload = kind(**parameters)
    return made


def _find(name: str) -> tuple[type[Any], str]:
    found = _WORKLOADS.get(name)
    if found is None:
        raise ValueError(f"no workload {name!r}: give one of {', '.join(_WORKLOADS)}")
    return found
