"""The agents of the demo: programs of LLM calls as plain data, made from a seed.

Two kinds, with the sizes of small coding agents (prompts of a few thousand tokens that grow by some hundred a turn,
short answers) and tool waits cut short, so that a run takes half a minute:

- **ReAct sessions**: instructions and tool definitions that all sessions share, a task, then turn after turn of a short
  answer, a tool wait and the tool's output. The context grows; each prompt repeats all before it.
- **Tree of thought**: a long problem, then levels of branches sent at the same instant on the same context, each level
  followed by an evaluation that goes on from the best branch.

The load is one that a KV-aware router is made for: the contexts alive at one time are two to three times the KV memory
of one replica, and fit into that of the fleet if each is kept in one place. If they fitted into every single replica,
any router would do; if they exceeded the fleet, none could help much.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sim.demo.text import INSTRUCTIONS, TOOLS, estimated_tokens, write

AGENTS_PER_S = 0.65
"""Programs that start per second and replica."""

TREE_EVERY = 5
"""One program in this many is a tree of thought."""

NOMINAL_TOKEN_S = 1 / 75
"""Time per output token of an engine with little to do."""


@dataclass(slots=True, frozen=True)
class Turn:
    """One LLM call: what it adds to the conversation, and how long the answer is."""

    text: str
    output_tokens: int


@dataclass(slots=True, frozen=True)
class Stage:
    """Calls made at the same instant on the conversation so far."""

    turns: tuple[Turn, ...]
    wait_s: float = 0.0
    """Time between the end of the stage before and this one: a tool runs, or the program thinks."""
    best: int = 0
    """The conversation goes on with this turn and its answer; the others are dropped."""


@dataclass(slots=True, frozen=True)
class Program:
    """One agent run: stages in order, each on what the stages before it left."""

    kind: str
    start_s: float
    system: str
    tools: tuple[dict[str, Any], ...]
    stages: tuple[Stage, ...]

    @property
    def calls(self) -> int:
        return sum(len(stage.turns) for stage in self.stages)

    @property
    def context_tokens(self) -> int:
        """Roughly what the conversation holds at its end, without the instructions."""
        kept = [stage.turns[stage.best] for stage in self.stages]
        return sum(estimated_tokens(turn.text) + turn.output_tokens for turn in kept)

    @property
    def nominal_s(self) -> float:
        """How long it takes when nothing queues and prompts cost nothing."""
        longest = sum(max(turn.output_tokens for turn in stage.turns) for stage in self.stages)
        return longest * NOMINAL_TOKEN_S + sum(stage.wait_s for stage in self.stages)


def make_programs(seed: int, seconds: float, replicas: int) -> list[Program]:
    """Programs that start within ``seconds``, in order; the same for the same seed.

    They start at even distances with jitter, so that another seed is other work and not another load.
    """
    count = max(1, round(AGENTS_PER_S * replicas * seconds))
    distance_s = seconds / count
    shared = random.Random(f"{seed}/shared")
    react_system = INSTRUCTIONS + write(shared, 900)
    tree_system = write(shared, 150)
    programs = []
    for number in range(count):
        rng = random.Random(f"{seed}/{number}")
        start_s = (number + rng.random()) * distance_s
        if number % TREE_EVERY == TREE_EVERY // 2:
            programs.append(_tree(rng, start_s, tree_system))
        else:
            programs.append(_react(rng, start_s, react_system))
    return programs


def peak_context_tokens(programs: Sequence[Program]) -> int:
    """Roughly how many tokens the contexts of programs alive at one time hold, the shared instructions counted once."""
    instructions = sum(estimated_tokens(system) for system in {program.system for program in programs})
    return instructions + max(
        sum(each.context_tokens for each in programs if each.start_s <= program.start_s < each.start_s + each.nominal_s)
        for program in programs
    )


def _react(rng: random.Random, start_s: float, system: str) -> Program:
    task = Stage((Turn("Task: " + write(rng, rng.randint(300, 900)), _answer_tokens(rng)),))
    steps = [_after_tool(rng, _answer_tokens(rng)) for _ in range(rng.randint(4, 9))]
    summary = _after_tool(rng, output_tokens=100)
    return Program("react", start_s, system, TOOLS, (task, *steps, summary))


def _after_tool(rng: random.Random, output_tokens: int) -> Stage:
    wait_s = min(2.5, rng.lognormvariate(-0.8, 0.7))
    observation_tokens = min(1500, int(rng.lognormvariate(5.9, 0.8)))
    return Stage((Turn("Observation: " + write(rng, observation_tokens), output_tokens),), wait_s)


def _answer_tokens(rng: random.Random) -> int:
    return rng.randint(25, 75)


def _tree(rng: random.Random, start_s: float, system: str) -> Program:
    problem = Stage((Turn("Problem: " + write(rng, rng.randint(1500, 3000)), _answer_tokens(rng)),))
    levels = [stage for _ in range(3) for stage in _level(rng)]
    return Program("tree", start_s, system, (), (problem, *levels))


def _level(rng: random.Random) -> tuple[Stage, Stage]:
    branches = tuple(Turn("Explore: " + write(rng, 30), _answer_tokens(rng)) for _ in range(5))
    evaluation = Turn("Evaluate this step: " + write(rng, 40), output_tokens=30)
    return Stage(branches, best=rng.randrange(len(branches))), Stage((evaluation,))
