"""Pipeline: agents in stages, alone or several side by side, each reading what the stage before brought forth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from sim.workloads.draft import Draft, Thread, relabelled
from sim.workloads.draw import Distribution, Lognormal, Range
from sim.workloads.heads import Documents, make_heads
from sim.workloads.program import Context, Part, Program
from sim.workloads.tools import ANSWER_TOKENS, ToolUse


@dataclass(slots=True, frozen=True)
class Pipeline:
    """Some 30 calls a program, as in LMCache's recordings of Magentic-One on GAIA (746 calls of 25 programs, a gap of
    5.6 s between calls in the median). How they divide into stages, forks and turns is chosen. Answers and results of
    tools: ``sim.workloads.tools``."""

    roles: int = 6
    """Agents that there are, each with its own tool definitions and system prompt, shared by all programs."""
    stages: Distribution = Range(3, 6)
    """Depth of the pipeline."""
    fork: float = 0.5
    """Share of stages with several agents side by side, which the next stage waits for."""
    width: Distribution = Range(2, 4)
    """Agents of such a stage."""
    turns: Distribution = Lognormal(3, 0.6, low=1, high=12)
    """Of each agent."""
    tools_tokens: Distribution = Range(1000, 8000)
    system_tokens: Distribution = Range(500, 2000)
    task_tokens: Distribution = Lognormal(4000, 0.8, low=200, high=30_000)
    """What the program is about; all its agents read it."""
    context_reuse: float = 0.0
    """Share of programs about what an earlier program was about."""
    answer_tokens: Distribution = ANSWER_TOKENS
    handover_tokens: Distribution = Lognormal(800, 0.6, low=100, high=4096)
    """An agent's last answer, for the stage after it."""
    tool: ToolUse = ToolUse(frequency=0.8, wait_s=Lognormal(5.6, 1.2, high=300.0))

    def __post_init__(self) -> None:
        if not 0 <= self.fork <= 1:
            raise ValueError(f"fork is a share of stages from 0 to 1, not {self.fork}")

    def programs(self, seed: int, streams: Iterator[int]) -> Iterator[Program]:
        pool = Random(f"{seed}/pipeline")
        heads = make_heads(self.roles, self.tools_tokens, self.system_tokens, pool, streams)
        tasks = Documents(self.task_tokens, self.context_reuse, pool, streams)
        number = 0
        while True:
            rng = Random(f"{seed}/pipeline/{number}")
            draft = Draft(streams)
            task = tasks.draw()
            after: tuple[str, ...] = ()
            upstream: tuple[Part, ...] = ()
            for stage in range(max(1, self.stages.whole(rng))):
                after, upstream = self._stage(draft, f"stage-{stage}", heads, (task, *upstream), after, rng)
            yield draft.program("pipeline", number)
            number += 1

    def _stage(
        self,
        draft: Draft,
        name: str,
        heads: list[tuple[Part, ...]],
        inputs: tuple[Part, ...],
        after: tuple[str, ...],
        rng: Random,
    ) -> tuple[tuple[str, ...], tuple[Part, ...]]:
        """The agents of one stage. Returns what the next stage waits for and what it reads."""
        width = max(1, self.width.whole(rng)) if rng.random() < self.fork else 1
        ends: list[str] = []
        handovers: list[Part] = []
        for index in range(width):
            agent = Thread(draft, (*rng.choice(heads), *inputs), after)
            agent.hear(Context.USER, Range(50, 300).whole(rng))
            handover = self._work(agent, f"{name}.agent-{index}", rng)
            handovers.append(relabelled(handover, Context.CHECKPOINT))
            ends.extend(agent.after)
        return tuple(ends), tuple(handovers)

    def _work(self, agent: Thread, name: str, rng: Random) -> Part:
        wait_s = 0.0
        turns = max(1, self.turns.whole(rng))
        for turn in range(1, turns):
            agent.call(f"{name}.turn-{turn}", self.answer_tokens.whole(rng), wait_s)
            wait_s = self.tool.use(agent, rng)
        return agent.call(f"{name}.turn-{turns}", self.handover_tokens.whole(rng), wait_s)
