"""Chat: a person and a model, with time to think between the turns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from sim.workloads.draft import Draft, Thread
from sim.workloads.draw import Distribution, Lognormal, Range
from sim.workloads.heads import make_heads
from sim.workloads.program import Context, Program


@dataclass(slots=True, frozen=True)
class Chat:
    """Fitted to Mooncake's conversation trace (kvcache-ai/Mooncake, FAST 25; 12,031 requests): one system prompt of
    less than 512 tokens for all; prompts of 6,909 tokens in the median and 27,367 at the 90th percentile; answers of
    350 tokens in the median and 1,119 at the 99th percentile; 1.5 requests a conversation, 7 at the 99th percentile, 43
    at most; 126 s between turns in the median, 480 s at the 90th percentile. The length of follow-up questions is
    chosen."""

    assistants: int = 1
    """System prompts in use."""
    system_tokens: Distribution = Range(500, 500)
    opening_tokens: Distribution = Lognormal(6400, 1.08, low=10, high=100_000)
    question_tokens: Distribution = Lognormal(150, 1.0, low=5, high=4000)
    answer_tokens: Distribution = Lognormal(350, 0.5, low=1, high=2000)
    turns: Distribution = Lognormal(1.0, 0.84, low=1, high=43)
    think_s: Distribution = Lognormal(126, 1.05, high=3600)

    def programs(self, seed: int, streams: Iterator[int]) -> Iterator[Program]:
        pool = Random(f"{seed}/chat")
        heads = make_heads(self.assistants, Range(0, 0), self.system_tokens, pool, streams)
        number = 0
        while True:
            rng = Random(f"{seed}/chat/{number}")
            draft = Draft(streams)
            talk = Thread(draft, rng.choice(heads))
            talk.hear(Context.USER, self.opening_tokens.whole(rng))
            talk.call("turn-1", self.answer_tokens.whole(rng))
            for turn in range(2, max(1, self.turns.whole(rng)) + 1):
                talk.hear(Context.USER, self.question_tokens.whole(rng))
                talk.call(f"turn-{turn}", self.answer_tokens.whole(rng), self.think_s.draw(rng))
            yield draft.program("chat", number)
            number += 1
