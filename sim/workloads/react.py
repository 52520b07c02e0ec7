"""ReAct: one agent in a loop of answer, tool call and tool result, each prompt repeating all before it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from sim.workloads.draft import Draft, Thread, relabelled
from sim.workloads.draw import Distribution, Lognormal, Range
from sim.workloads.heads import make_heads
from sim.workloads.program import Context, Part, Program
from sim.workloads.tools import ANSWER_TOKENS, ToolUse

SUBAGENT_HEAD_TOKENS = (Range(7400, 8600), Range(550, 1000))
"""Tool definitions and system prompt of sub-agents in the same recordings."""


@dataclass(slots=True, frozen=True)
class React:
    """Defaults are those of 710 Claude Code programs (callanjfox/kv-cache-tester): 6 LLM calls per request of the
    user in the median, 14.6 on average and 39 at the 90th percentile; system prompts of 2,000 to 5,000 tokens; one
    turn in 780 starts a sub-agent, which makes 10.7 calls. Answers and tools: ``sim.workloads.tools``. Tool definitions
    of 10,000 to 30,000 tokens: 12,000 in those recordings, more with a few MCP servers."""

    agents: int = 4
    """Deployed agents, each with its own tool definitions and system prompt. Programs of one share them."""
    tools_tokens: Distribution = Range(10_000, 30_000)
    system_tokens: Distribution = Range(2000, 5000)
    task_tokens: Distribution = Lognormal(500, 1.2, low=20, high=20_000)
    turns: Distribution = Lognormal(6, 1.35, low=1, high=100)
    answer_tokens: Distribution = ANSWER_TOKENS
    tool: ToolUse = ToolUse()
    delegation: float = 1 / 780
    """Share of turns that hand their work to a sub-agent instead of a tool."""
    delegate_turns: Distribution = Lognormal(9, 0.6, low=1, high=40)
    max_context_tokens: int = 120_000
    """Beyond this, the agent sums up what was and goes on from the summary."""
    summary_tokens: Distribution = Range(2000, 6000)

    def __post_init__(self) -> None:
        if not 0 <= self.delegation <= 1:
            raise ValueError(f"delegation is a share of turns from 0 to 1, not {self.delegation}")

    def programs(self, seed: int, streams: Iterator[int]) -> Iterator[Program]:
        pool = Random(f"{seed}/react")
        heads = make_heads(self.agents, self.tools_tokens, self.system_tokens, pool, streams)
        (delegate_head,) = make_heads(1, *SUBAGENT_HEAD_TOKENS, pool, streams)
        number = 0
        while True:
            rng = Random(f"{seed}/react/{number}")
            yield self._program(number, rng, rng.choice(heads), delegate_head, streams)
            number += 1

    def _program(
        self, number: int, rng: Random, head: tuple[Part, ...], delegate_head: tuple[Part, ...], streams: Iterator[int]
    ) -> Program:
        draft = Draft(streams)
        agent = Thread(draft, head)
        agent.hear(Context.USER, self.task_tokens.whole(rng))
        wait_s = 0.0
        for turn in range(1, max(1, self.turns.whole(rng)) + 1):
            if turn > 1:
                if rng.random() < self.delegation:
                    wait_s = 0.0
                    self._delegate(agent, f"agent-{turn}", delegate_head, rng)
                else:
                    wait_s = self.tool.use(agent, rng)
            answer_tokens = self.answer_tokens.whole(rng)
            if agent.context_tokens + answer_tokens > self.max_context_tokens:
                self._sum_up(agent, f"summary-{turn}", head, wait_s, rng)
                wait_s = 0.0
            agent.call(f"turn-{turn}", answer_tokens, wait_s)
        return draft.program("react", number)

    def _delegate(self, agent: Thread, name: str, head: tuple[Part, ...], rng: Random) -> None:
        """A sub-agent works in a context of its own; its last answer is what the agent reads."""
        delegate = Thread(agent.draft, head, agent.after, name)
        delegate.hear(Context.USER, self.task_tokens.whole(rng))
        wait_s = 0.0
        for turn in range(1, max(1, self.delegate_turns.whole(rng)) + 1):
            answer = delegate.call(f"{name}.turn-{turn}", self.answer_tokens.whole(rng), wait_s)
            wait_s = self.tool.use(delegate, rng)
        agent.read(relabelled(answer, Context.TOOL_RESULT))
        agent.join(delegate)

    def _sum_up(self, agent: Thread, name: str, head: tuple[Part, ...], wait_s: float, rng: Random) -> None:
        agent.parts = _cut(agent.parts, self.max_context_tokens)
        summary = agent.call(name, self.summary_tokens.whole(rng), wait_s)
        agent.parts = (*head, relabelled(summary, Context.CHECKPOINT))
        agent.hear(Context.USER, 50)


def _cut(parts: tuple[Part, ...], tokens: int) -> tuple[Part, ...]:
    """As many whole parts from the start as hold ``tokens`` at most."""
    kept: list[Part] = []
    for part in parts:
        tokens -= part.tokens
        if tokens < 0:
            break
        kept.append(part)
    return tuple(kept)
