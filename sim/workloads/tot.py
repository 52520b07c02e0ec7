"""Tree of thought: branches from one shared context, evaluated together, level after level from the best."""

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
class TreeOfThought:
    """Depth, width and votes are those of the paper's Game of 24 runs (princeton-nlp/tree-of-thought-llm, 100
    problems): four levels, 6 to 17 candidates at the first with 8 in the median, three votes per evaluation, 9,000
    tokens answered in some 250 calls. The context of 30,000 to 100,000 tokens is chosen: a code base or case file where
    Game of 24 has four numbers. Thoughts are as long as an agent's answers (``sim.workloads.tools``)."""

    depth: Distribution = Range(4, 4)
    width: Distribution = Lognormal(8, 0.4, low=3, high=17)
    """Branches of each level."""
    votes: int = 3
    """Evaluations of each level, made at the same time."""
    context_tokens: Distribution = Range(30_000, 100_000)
    context_reuse: float = 0.0
    """Share of programs whose context an earlier program had."""
    system_tokens: Distribution = Range(300, 1000)
    hint_tokens: Distribution = Range(30, 120)
    """What tells one branch from its siblings."""
    thought_tokens: Distribution = ANSWER_TOKENS
    vote_tokens: Distribution = Range(20, 50)
    tool: ToolUse = ToolUse(frequency=0.0)
    """What an evaluation waits for, as the run of a test-suite."""

    def __post_init__(self) -> None:
        if self.votes < 1:
            raise ValueError(f"a level needs at least one vote, not {self.votes}")

    def programs(self, seed: int, streams: Iterator[int]) -> Iterator[Program]:
        pool = Random(f"{seed}/tot")
        (head,) = make_heads(1, Range(0, 0), self.system_tokens, pool, streams)
        documents = Documents(self.context_tokens, self.context_reuse, pool, streams)
        number = 0
        while True:
            rng = Random(f"{seed}/tot/{number}")
            yield self._program(number, rng, (*head, documents.draw()), streams)
            number += 1

    def _program(self, number: int, rng: Random, prefix: tuple[Part, ...], streams: Iterator[int]) -> Program:
        draft = Draft(streams)
        root = Thread(draft, prefix)
        root.hear(Context.USER, Range(100, 600).whole(rng))
        for level in range(max(1, self.depth.whole(rng))):
            thoughts = self._branches(root, level, rng)
            self._evaluate(root, level, thoughts, rng)
            root.read(relabelled(rng.choice(thoughts), Context.CHECKPOINT))
        root.hear(Context.USER, 40)
        root.call("conclude", self.thought_tokens.whole(rng))
        return draft.program("tot", number)

    def _branches(self, root: Thread, level: int, rng: Random) -> list[Part]:
        """Grow a level; the root goes on after all of it. Returns the thoughts."""
        branches, thoughts = [], []
        for index in range(max(1, self.width.whole(rng))):
            branch = root.fork()
            branch.hear(Context.BRANCH, self.hint_tokens.whole(rng))
            thoughts.append(branch.call(f"level-{level}.branch-{index}", self.thought_tokens.whole(rng)))
            branches.append(branch)
        root.join(*branches)
        return thoughts

    def _evaluate(self, root: Thread, level: int, thoughts: list[Part], rng: Random) -> None:
        """Votes that all read all thoughts; the root goes on after all of them."""
        jury = root.fork()
        wait_s = self.tool.use(jury, rng)
        jury.read(*(relabelled(thought, Context.BRANCH) for thought in thoughts))
        jury.hear(Context.USER, 60)
        votes = [jury.fork() for _ in range(self.votes)]
        for index, vote in enumerate(votes):
            vote.call(f"level-{level}.vote-{index}", self.vote_tokens.whole(rng), wait_s)
        root.join(*votes)
