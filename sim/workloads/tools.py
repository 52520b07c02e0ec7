"""Tool calls between the turns of an agent, and the sizes of its answers.

Figures are from 710 Claude Code programs (49,334 requests) of callanjfox/kv-cache-tester: answers of 216 tokens in the
median and 440 on average; 705 new tokens a turn in the median and 7,987 at the 95th percentile, the answer before
included; 9 s from a tool call to its result in the median, 68 s at the 90th percentile and 610 s at the 99th.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from sim.workloads.draft import Thread
from sim.workloads.draw import Distribution, Lognormal
from sim.workloads.program import Context

ANSWER_TOKENS = Lognormal(216, 1.2, low=1, high=4096)


@dataclass(slots=True, frozen=True)
class ToolUse:
    frequency: float = 1.0
    """Share of turns that wait for a tool; after the others the agent goes on at once."""
    wait_s: Distribution = Lognormal(9.0, 1.7, high=610.0)
    result_tokens: Distribution = Lognormal(490, 1.5, low=8, high=16_000)

    def __post_init__(self) -> None:
        if not 0 <= self.frequency <= 1:
            raise ValueError(f"frequency is a share from 0 to 1, not {self.frequency}")

    def use(self, thread: Thread, rng: Random) -> float:
        """Append a tool's result if the turn calls one. Returns how long it takes, in seconds."""
        wait_s, result_tokens = self.wait_s.draw(rng), self.result_tokens.whole(rng)
        if rng.random() >= self.frequency:
            return 0.0
        thread.hear(Context.TOOL_RESULT, result_tokens)
        return wait_s
