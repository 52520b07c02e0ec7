"""Uniform: single requests that share nothing. Whatever a policy gains elsewhere, it must not lose here."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from sim.workloads.draft import Draft, Thread
from sim.workloads.draw import Distribution, Range
from sim.workloads.program import Context, Program


@dataclass(slots=True, frozen=True)
class Uniform:
    """5,000 tokens in and 250 out on average, the sizes of llm-d's guide to disaggregated serving, spread by half."""

    prompt_tokens: Distribution = Range(2500, 7500)
    answer_tokens: Distribution = Range(125, 375)

    def programs(self, seed: int, streams: Iterator[int]) -> Iterator[Program]:
        number = 0
        while True:
            rng = Random(f"{seed}/uniform/{number}")
            draft = Draft(streams)
            request = Thread(draft)
            request.hear(Context.USER, self.prompt_tokens.whole(rng))
            request.call("request", self.answer_tokens.whole(rng))
            yield draft.program("uniform", number)
            number += 1
