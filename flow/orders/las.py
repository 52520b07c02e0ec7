"""Least attained service, as llm-d's ``program-aware-fairness`` has it.

A program is a queue, first come first served inside. The queue with the highest score goes first:

    score = 0.8 * (1 - norm(attained service)) + 0.2 * norm(wait of the queue's first)

``norm`` maps the least to 0 and the greatest to 1 among queues in which somebody waits; 0.5 when all are equal.
Service is prompt tokens + 2 * completion tokens, added when a request ends; it halves every 60 s, and is forgotten an
hour after the program's last request. All service halves alike and all waits grow alike, so scores only change when
something happens; those of many queues are told anew only once in so many events that it costs no more. Source:
llm-d/llm-d-router, pkg/epp/framework/plugins/flowcontrol/fairness/program-aware (README.md, strategy_las.go,
strategy.go).
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
_FEW = 256
"""Programs that are scored again for each event."""


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
        self._events = 0
        """Since the scores were told."""

    def rank(self, waiting: Waiting, now: float) -> Rank:
        return (-self._scores.get(waiting.request.program_key, 0.0),)

    def moved(self, now: float) -> Collection[ProgramKey]:
        if not self._events or self._events * _FEW < len(self._queues):
            return ()
        self._events = 0
        old, self._scores = self._scores, self._score(now)
        return [key for key, score in self._scores.items() if old.get(key) != score]

    def submitted(self, waiting: Waiting, now: float) -> None:
        self._queues[waiting.request.program_key][waiting.ticket] = None
        self._events += 1

    def dispatched(self, waiting: Waiting, now: float) -> None:
        self.withdrawn(waiting, now)

    def withdrawn(self, waiting: Waiting, now: float) -> None:
        key = waiting.request.program_key
        del self._queues[key][waiting.ticket]
        if not self._queues[key]:
            del self._queues[key]
        self._events += 1

    def ended(self, ticket: Ticket, usage: Usage | None, outcome: Outcome, now: float) -> None:
        if usage is None:
            return
        service = self._services.use(ticket.request.program_key, now)
        cost = _PROMPT_WEIGHT * (usage.prompt_tokens or 0) + _COMPLETION_WEIGHT * (usage.completion_tokens or 0)
        service.tokens = service.attained(now, self._half_life_s) + cost
        service.at_s = now
        self._events += 1

    def _score(self, now: float) -> dict[ProgramKey, float]:
        """Of each program that waits. A first that came later has waited less."""
        services = _normalised([self._attained(key, now) for key in self._queues])
        comings = _normalised([next(iter(queue)).submitted_s for queue in self._queues.values()])
        return {
            key: self._service_weight * (1 - service) + self._wait_weight * (1 - coming)
            for key, service, coming in zip(self._queues, services, comings, strict=True)
        }

    def _attained(self, key: ProgramKey, now: float) -> float:
        service = self._services.find(key)
        return 0.0 if service is None else service.attained(now, self._half_life_s)


def _normalised(values: list[float]) -> list[float]:
    least, greatest = min(values, default=0.0), max(values, default=0.0)
    if least == greatest:
        return [_MIDDLE] * len(values)
    return [(value - least) / (greatest - least) for value in values]
