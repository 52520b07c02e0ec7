"""A mix of agents for a model that runs on CPUs: swarms, trees of thought, ReAct loops, conversations with real text.

The shapes are those of the simulator's workloads, cut to a model whose cache holds 16,384 tokens: contexts of 6,000
tokens, half a dozen calls, tools as much quicker. The conversations are those of the agent trace.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import count, islice
from random import Random

from real_traces import Turn

from sim.workloads.draft import Draft, Thread
from sim.workloads.draw import Lognormal, Range
from sim.workloads.fit import fitting
from sim.workloads.program import Context, Part, Program
from sim.workloads.react import React
from sim.workloads.swarm import Swarm
from sim.workloads.tools import ToolUse
from sim.workloads.tot import TreeOfThought

ANSWER_TOKENS = Lognormal(40, 0.6, low=8, high=150)
TOOL = ToolUse(wait_s=Lognormal(0.5, 1.0, high=5.0), result_tokens=Lognormal(300, 0.8, low=8, high=1000))
CONVERSATION_CALLS = 4
"""Of a conversation, at most."""

SWARM = Swarm(
    width=Range(2, 3),
    shared_tokens=Range(4500, 6500),
    tools_tokens=Range(400, 800),
    system_tokens=Range(100, 300),
    turns=Lognormal(1.3, 0.6, low=1, high=4),
    answer_tokens=ANSWER_TOKENS,
    tool=TOOL,
)
TREE = TreeOfThought(
    depth=Range(2, 2),
    width=Lognormal(2.5, 0.3, low=2, high=4),
    votes=2,
    context_tokens=Range(4500, 7000),
    system_tokens=Range(100, 300),
    hint_tokens=Range(20, 60),
    thought_tokens=ANSWER_TOKENS,
    vote_tokens=Range(8, 16),
)
REACT = React(
    agents=3,
    tools_tokens=Range(3000, 5000),
    system_tokens=Range(200, 500),
    task_tokens=Lognormal(200, 0.8, low=20, high=1000),
    turns=Lognormal(3.5, 0.4, low=2, high=6),
    answer_tokens=ANSWER_TOKENS,
    tool=TOOL,
    delegation=0.0,
)
SHARES = {"swarm": 5, "tot": 4, "react": 7, "text": 5}
"""Programs of each kind in 21."""


@dataclass(slots=True, frozen=True)
class Mix:
    programs: list[Program]
    """In the order in which they start."""
    texts: dict[str, list[Turn]]
    """What is said in conversations, by program. All other prompts are nothing but tokens."""


def make_mix(seed: int, sessions: Sequence[Sequence[Turn]], max_model_len_tokens: int) -> Mix:
    """The same for the same seed and sessions. Prompts of conversations are guessed at in tokens, not counted."""
    streams = count()
    workloads = {"swarm": SWARM, "tot": TREE, "react": REACT}
    programs = [
        program
        for kind, workload in workloads.items()
        for program in islice(workload.programs(seed, streams), SHARES[kind])
    ]
    programs, _ = fitting(programs, max_model_len_tokens)
    rng = Random(f"{seed}/mix")
    texts = {
        f"text-{number}": list(turns[:CONVERSATION_CALLS])
        for number, turns in enumerate(rng.sample(list(sessions), SHARES["text"]))
    }
    programs += [_conversation(name, turns, Draft(streams), rng) for name, turns in texts.items()]
    rng.shuffle(programs)
    return Mix(programs, texts)


def longest_context_tokens(program: Program) -> int:
    return max(step.prompt_tokens + step.output_tokens for step in program.steps)


def _conversation(name: str, turns: Sequence[Turn], draft: Draft, rng: Random) -> Program:
    """As long as its text. The model's own answers are not read again: the trace's are."""
    thread = Thread(draft)
    for number, turn in enumerate(turns, 1):
        thread.hear(Context.USER, _tokens(turn.user))
        wait_s = TOOL.wait_s.draw(rng) if number > 1 else 0.0
        said = thread.fork()
        said.call(f"turn-{number}", ANSWER_TOKENS.whole(rng), wait_s)
        thread.read(Part(Context.ANSWER, next(draft.streams), _tokens(turn.assistant)))
        thread.after = said.after
    program = draft.program("text", 0)
    return Program(name, "text", 0.0, program.steps)


def _tokens(text: str) -> int:
    return max(1, len(text) // 3)
