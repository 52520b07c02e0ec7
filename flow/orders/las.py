"""Least attained service, as llm-d's ``program-aware-fairness`` has it.

A program is a queue, first come first served inside. The queue with the highest score goes first:

    score = 0.8 * (1 - norm(attained service)) + 0.2 * norm(wait of the queue's first)

``norm`` maps the least to 0 and the greatest to 1 among queues in which somebody waits; 0.5 when all are equal.
Service is prompt tokens + 2 * completion tokens, added when a request ends; it halves every 60 s, and is forgotten an
hour after the program's last request. All service halves alike and all waits grow alike, so scores only change when
something happens. Source: llm-d/llm-d-router, pkg/epp/framework/plugins/flowcontrol/fairness/program-aware (README.md,
strategy_las.go, strategy.go).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from math import exp2

from flow.programs import LruByProgram
from router.core.flow import ProgramKey, Rank, Waiting
from router.core.types import Outcome, Ticket, Usage

_PROMPT_WEIGHT = 1.0
_COMPLETION_WEIGHT = 2.0
_MIDDLE = 0.5


@dataclass(slots=True)
class _Service:
    tokens: float = 0.0
    """Attained until ``at_s``."""
    at_s: float = 0.0

    def attained(self, now: float, half_life_s: float) -> float:
        return self.tokens * exp2((self.at_s - now) / half_life_s)


class LeastAttainedService:
    """Programs that have had little go first."""

    name = "las"

    def __init__(
        self,
        service_weight: float = 0.8,
        wait_weight: float = 0.2,
        half_life_s: float = 60.0,
        idle_s: float = 3600.0,
        max_programs: int = 100_000,
    ) -> None:
        self._service_weight = service_weight
        self._wait_weight = wait_weight
        self._half_life_s = half_life_s
        self._services = LruByProgram(_Service, max_programs, idle_s)
        self._queues: defaultdict[ProgramKey, dict[Ticket, None]] = defaultdict(dict)
        """Who waits of each program, first come first."""
        self._scores: dict[ProgramKey, float] = {}
        self._stale = False

    def rank(self, waiting: Waiting, now: float) -> Rank:
        return (-self._scores.get(waiting.request.program_key, 0.0),)

    def moved(self, now: float) -> Collection[ProgramKey]:
        if not self._stale:
            return ()
        self._stale = False
        old, self._scores = self._scores, self._score(now)
        return [key for key, score in self._scores.items() if old.get(key) != score]

    def submitted(self, waiting: Waiting, now: float) -> None:
        self._queues[waiting.request.program_key][waiting.ticket] = None
        self._stale = True

    def dispatched(self, waiting: Waiting, now: float) -> None:
        self.withdrawn(waiting, now)

    def withdrawn(self, waiting: Waiting, now: float) -> None:
        key = waiting.request.program_key
        del self._queues[key][waiting.ticket]
        if not self._queues[key]:
            del self._queues[key]
        self._stale = True

    def ended(self, ticket: Ticket, usage: Usage | None, outcome: Outcome, now: float) -> None:
        if usage is None:
            return
        service = self._services.use(ticket.request.program_key, now)
        cost = _PROMPT_WEIGHT * (usage.prompt_tokens or 0) + _COMPLETION_WEIGHT * (usage.completion_tokens or 0)
        service.tokens = service.attained(now, self._half_life_s) + cost
        service.at_s = now
        self._stale = True

    def _score(self, now: float) -> dict[ProgramKey, float]:
        """Of each program that waits. A first that came later has waited less."""
        services = self._normalised({key: self._attained(key, now) for key in self._queues})
        comings = self._normalised({key: next(iter(queue)).submitted_s for key, queue in self._queues.items()})
        return {
            key: self._service_weight * (1 - services[key]) + self._wait_weight * (1 - comings[key])
            for key in self._queues
        }

    def _attained(self, key: ProgramKey, now: float) -> float:
        service = self._services.find(key)
        return 0.0 if service is None else service.attained(now, self._half_life_s)

    @staticmethod
    def _normalised(values: dict[ProgramKey, float]) -> dict[ProgramKey, float]:
        least, greatest = min(values.values(), default=0.0), max(values.values(), default=0.0)
        if least == greatest:
            return dict.fromkeys(values, _MIDDLE)
        return {key: (value - least) / (greatest - least) for key, value in values.items()}
