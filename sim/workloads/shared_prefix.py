"""Shared prefix: groups of prompts with a common system prompt, sent over and over in one shuffled order."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from sim.workloads.draft import Draft, Thread
from sim.workloads.program import Context, Program


@dataclass(slots=True, frozen=True)
class SharedPrefix:
    """llm-d-kv-cache's benchmark "73 % capacity": inference-perf's shared-prefix generator with 150 groups of 5
    prompts, 6,000 tokens of system prompt, 1,200 of question, 1,000 of answer. The generator shuffles the 750 prompts
    once and cycles through them. Its ladder of rates is the default of ``sim.workloads.arrivals.Ladder``."""

    groups: int = 150
    prompts_per_group: int = 5
    system_tokens: int = 6000
    question_tokens: int = 1200
    answer_tokens: int = 1000

    def __post_init__(self) -> None:
        if min(self.groups, self.prompts_per_group, self.system_tokens, self.question_tokens, self.answer_tokens) < 1:
            raise ValueError(f"groups, prompts and tokens must be at least 1: {self}")

    def programs(self, seed: int, streams: Iterator[int]) -> Iterator[Program]:
        making = Draft(streams)
        prompts = []
        for _ in range(self.groups):
            system = making.new_part(Context.SYSTEM, self.system_tokens)
            prompts += [
                (system, making.new_part(Context.USER, self.question_tokens)) for _ in range(self.prompts_per_group)
            ]
        Random(f"{seed}/shared-prefix").shuffle(prompts)
        number = 0
        while True:
            draft = Draft(streams)
            Thread(draft, prompts[number % len(prompts)]).call("request", self.answer_tokens)
            yield draft.program("shared-prefix", number)
            number += 1
