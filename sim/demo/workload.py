"""The agents of the demo: programs of LLM calls as plain data, made from a seed.

Two kinds, with the sizes of small coding agents (prompts of a few thousand tokens that grow by some hundred a turn,
short answers) and tool waits cut short, so that a run takes less than a minute:

- **ReAct sessions**: instructions and tool definitions that all sessions share, an issue with the files that it names,
  then turn after turn of a short answer, a tool wait and the tool's output. The context grows; each prompt repeats all
  before it.
- **Tree of thought**: a long problem, then levels of branches sent at the same instant on the same context, each level
  followed by an evaluation that goes on from the best branch.

They come in a burst, and the contexts alive at one time are more than one and a half times the KV memory of the whole
fleet. Keeping each in one place is worth less then, as it is gone before its next turn; what helps is to run fewer at
once. If all fitted into the fleet, a KV-aware router would do; if they fitted into every single replica, any would.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sim.demo.text import INSTRUCTIONS, TOOLS, estimated_tokens, write

AGENTS_PER_S = 2.5
"""Programs that start per second and replica."""

TREE_EVERY = 5
"""One program in this many is a tree of thought."""

LEVELS = 3
"""Of a tree. Its agent knows that; how long a ReAct session gets, nobody does."""

NOMINAL_TOKEN_S = 1 / 110
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
    name: str = ""
    """What the agent calls it, in its hints."""
    remaining: int | None = None
    """Stages that follow, where the agent knows it."""


@dataclass(slots=True, frozen=True)
class Program:
    """One agent run: stages in order, each on what the stages before it left."""

    kind: str
    name: str
    """Unlike that of any other."""
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
            programs.append(_tree(rng, number, start_s, tree_system))
        else:
            programs.append(_react(rng, number, start_s, react_system))
    return programs


def peak_context_tokens(programs: Sequence[Program]) -> int:
    """Roughly how many tokens the contexts of programs alive at one time hold, the shared instructions counted once."""
    instructions = sum(estimated_tokens(system) for system in {program.system for program in programs})
    return instructions + max(
        sum(each.context_tokens for each in programs if each.start_s <= program.start_s < each.start_s + each.nominal_s)
        for program in programs
    )


def _react(rng: random.Random, number: int, start_s: float, system: str) -> Program:
    issue = Turn("Issue: " + write(rng, rng.randint(2000, 4000)), _answer_tokens(rng))
    steps = [_after_tool(rng, "act", _answer_tokens(rng)) for _ in range(rng.randint(3, 7))]
    summary = _after_tool(rng, "sum up", output_tokens=100)
    return Program("react", f"react-{number}", start_s, system, TOOLS, (Stage((issue,), name="look"), *steps, summary))


def _after_tool(rng: random.Random, name: str, output_tokens: int) -> Stage:
    wait_s = min(2.5, rng.lognormvariate(-0.8, 0.7))
    observation_tokens = min(1000, int(rng.lognormvariate(5.9, 0.8)))
    return Stage((Turn("Observation: " + write(rng, observation_tokens), output_tokens),), wait_s, name=name)


def _answer_tokens(rng: random.Random) -> int:
    return rng.randint(25, 75)


def _tree(rng: random.Random, number: int, start_s: float, system: str) -> Program:
    problem = Turn("Problem: " + write(rng, rng.randint(3000, 5000)), _answer_tokens(rng))
    levels = [stage for level in range(LEVELS) for stage in _level(rng, 2 * (LEVELS - level))]
    stages = Stage((problem,), name="read", remaining=2 * LEVELS), *levels
    return Program("tree", f"tree-{number}", start_s, system, (), stages)


def _level(rng: random.Random, stages_left: int) -> tuple[Stage, Stage]:
    branches = tuple(Turn("Explore: " + write(rng, 30), _answer_tokens(rng)) for _ in range(5))
    evaluation = Turn("Evaluate this step: " + write(rng, 40), output_tokens=30)
    return (
        Stage(branches, best=rng.randrange(len(branches)), name="explore", remaining=stages_left - 1),
        Stage((evaluation,), name="evaluate", remaining=stages_left - 2),
    )
