"""Autellix' ATLAS: a request's priority is the longest path of service that led to it, in seconds.

    p(c) = max over the parents k of c of p(k) + service(k)

Parents are the steps that the client names in ``x-program-after``. A request that names no step of its own takes the
longest path of the program so far, as Algorithm 1 does. For programs with parallel calls, whose total says little of
how far they are. Autellix (arXiv 2502.13965), equation 2; the queues are `AutellixOrder`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from flow.orders.autellix import AutellixOrder
from router.core.types import Request

_MAX_STEPS = 4096
"""Of one program that are remembered; the oldest go first."""


@dataclass(slots=True)
class _OfPath:
    longest_s: float = 0.0
    steps_s: dict[str, float] = field(default_factory=dict)
    """Path up to the end of each named step."""

    def before(self, request: Request) -> float:
        hint = request.program
        if hint is None or not hint.step:
            return self.longest_s
        return max((self.steps_s.get(name, 0.0) for name in hint.after), default=0.0)

    def add(self, request: Request, before_s: float, service_s: float) -> None:
        path_s = before_s + service_s
        self.longest_s = max(self.longest_s, path_s)
        hint = request.program
        if hint is not None and hint.step:
            self.steps_s[hint.step] = max(path_s, self.steps_s.pop(hint.step, 0.0))
            if len(self.steps_s) > _MAX_STEPS:
                del self.steps_s[next(iter(self.steps_s))]


def atlas(max_programs: int = 100_000, idle_s: float = 3600.0) -> AutellixOrder:
    """Attained service of the path."""
    return AutellixOrder("atlas", _OfPath, max_programs=max_programs, idle_s=idle_s)
