"""Swarm: a parent hands one large context to many children at once and puts together what they bring back."""

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
class Swarm:
    """Children share 90 to 95 % of their first prompt and take up to a dozen turns, most of them few: a swarm is done
    when its slowest child is. In the 17 parallel groups of sub-agents among 710 Claude Code programs
    (callanjfox/kv-cache-tester) the slowest took 0.27 to 0.54 of all the time of its group of two or three. Width and
    context are chosen. Answers and tools: ``sim.workloads.tools``."""

    width: Distribution = Range(4, 16)
    """Children of one parent."""
    levels: int = 1
    """Levels of delegation: with 2, each child has a swarm of its own."""
    shared_tokens: Distribution = Range(20_000, 50_000)
    shared_fraction: Distribution = Range(0.90, 0.95)
    """Of a child's first prompt."""
    context_reuse: float = 0.0
    """Share of programs whose shared context an earlier program had."""
    tools_tokens: Distribution = Range(4000, 12_000)
    system_tokens: Distribution = Range(500, 2000)
    turns: Distribution = Lognormal(2, 0.8, low=1, high=12)
    """Of each child."""
    answer_tokens: Distribution = ANSWER_TOKENS
    tool: ToolUse = ToolUse()

    def __post_init__(self) -> None:
        if self.levels < 1:
            raise ValueError(f"a swarm needs at least one level of delegation, not {self.levels}")

    def programs(self, seed: int, streams: Iterator[int]) -> Iterator[Program]:
        pool = Random(f"{seed}/swarm")
        (head,) = make_heads(1, self.tools_tokens, self.system_tokens, pool, streams)
        documents = Documents(self.shared_tokens, self.context_reuse, pool, streams)
        number = 0
        while True:
            rng = Random(f"{seed}/swarm/{number}")
            draft = Draft(streams)
            parent = Thread(draft, (*head, documents.draw()))
            parent.hear(Context.USER, Range(100, 1000).whole(rng))
            self._delegate(parent, "", self.levels, rng)
            yield draft.program("swarm", number)
            number += 1

    def _delegate(self, parent: Thread, path: str, levels: int, rng: Random) -> Part:
        """Plan, let the children work, and put their answers together in the answer returned."""
        shared = parent.fork()
        parent.call(f"{path}plan", self.answer_tokens.whole(rng))
        children, answers = [], []
        for index in range(max(1, self.width.whole(rng))):
            child = shared.fork(f"{path}child-{index}")
            child.after = parent.after
            fraction = self.shared_fraction.draw(rng)
            child.hear(Context.BRANCH, round(shared.context_tokens * (1 / fraction - 1)))
            answers.append(self._work(child, f"{path}child-{index}", levels, rng))
            children.append(child)
        parent.join(*children)
        parent.read(*(relabelled(answer, Context.BRANCH) for answer in answers))
        return parent.call(f"{path}aggregate", self.answer_tokens.whole(rng))

    def _work(self, child: Thread, name: str, levels: int, rng: Random) -> Part:
        if levels > 1:
            return self._delegate(child, f"{name}.", levels - 1, rng)
        wait_s = 0.0
        for turn in range(1, max(1, self.turns.whole(rng)) + 1):
            answer = child.call(f"{name}.turn-{turn}", self.answer_tokens.whole(rng), wait_s)
            wait_s = self.tool.use(child, rng)
        return answer
