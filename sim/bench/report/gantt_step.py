"""A step of a program as Gantt charts in ``results.json`` have it."""

from __future__ import annotations

from itertools import pairwise

import msgspec

from sim.bench.report.measures import three_digits

PHASES = ("waiting", "prefill", "decode")


class GanttStep(msgspec.Struct, frozen=True):
    """Times are seconds since the program's start."""

    step: str
    agent: str
    after: list[str]
    replica: int
    sent_s: float
    scheduled_s: float
    first_token_s: float
    ended_s: float
    cached_tokens: int
    prompt_tokens: int

    @property
    def spans_s(self) -> tuple[tuple[float, float], ...]:
        """Begin and end of each of `PHASES`."""
        times_s = (self.sent_s, self.scheduled_s, self.first_token_s, self.ended_s)
        return tuple(pairwise(times_s))

    @property
    def cached_share(self) -> float:
        return self.cached_tokens / self.prompt_tokens if self.prompt_tokens else 0.0

    def describe(self) -> str:
        agent = f" of {self.agent}" if self.agent else ""
        spans_s = zip(PHASES, self.spans_s, strict=True)
        times = ", ".join(f"{phase} {three_digits(end_s - begin_s)} s" for phase, (begin_s, end_s) in spans_s)
        return f"{self.step}{agent}, replica {self.replica}: {times}; {self.cached_share:.0%} cached"


def gantt_steps(steps: object) -> list[GanttStep]:
    """Raises ValueError when they are not steps."""
    return msgspec.convert(steps, list[GanttStep])
