"""A profile chooses a replica: filters, then weighted scorers, then a picker."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import NamedTuple, Protocol, runtime_checkable

import msgspec
import numpy as np
from numpy.typing import NDArray

from router.core.filters import Filter
from router.core.fleet import Fleet, ModelRef, Slots
from router.core.pickers import Picker
from router.core.types import Request, Scores, Ticket, Usage
from router.core.view import Candidates, View


class Scorer(Protocol):
    """Rates candidates. Returns one value per candidate in [0, 1], higher is better."""

    name: str

    def score(self, request: Request, candidates: Candidates, view: View) -> Scores: ...


@runtime_checkable
class DispatchObserver(Protocol):
    """A scorer that remembers where requests went."""

    def dispatched(self, request: Request, candidates: Candidates, position: int, now: float) -> None:
        """The request goes to ``candidates[position]``."""


@runtime_checkable
class EndObserver(Protocol):
    """A scorer that remembers what is in flight."""

    def ended(self, ticket: Ticket, usage: Usage | None, now: float) -> None:
        """A dispatched request is over, however it ended; ``ticket.decision`` says where it was."""


class WeightedScorer(NamedTuple):
    scorer: Scorer
    weight: float


@dataclass(slots=True, frozen=True)
class Explanation:
    """Why a replica was chosen: every candidate, what each scorer gave it, the weighted sum, the winner."""

    profile: str
    picker: str
    candidates: list[str]
    cached_tokens: list[int]
    prompt_tokens: int
    weights: dict[str, float]
    scores: dict[str, list[float]]
    totals: list[float]
    winner: str
    queue: dict[str, object] = field(default_factory=dict)
    """The order, how long the request waited and for what, and what it was then ranked and is told the engine."""
    program: dict[str, object] | None = None
    """The request's place in its program, where programs are followed."""
    disaggregation: dict[str, object] | None = None
    """Where its prompt is computed and why, in a fleet whose replicas have roles."""

    def to_json(self) -> bytes:
        """ASCII: it is sent in a header."""
        told = msgspec.json.encode(
            {
                "queue": self.queue,
                "program": self.program,
                "disaggregation": self.disaggregation,
                "profile": self.profile,
                "picker": self.picker,
                "winner": self.winner,
                "prompt_tokens": self.prompt_tokens,
                "weights": self.weights,
                "candidates": [self._row(position) for position in range(len(self.candidates))],
            }
        )
        return told if told.isascii() else json.dumps(msgspec.json.decode(told)).encode()

    def _row(self, position: int) -> dict[str, object]:
        return {
            "replica": self.candidates[position],
            "cached_tokens": self.cached_tokens[position],
            "scores": {name: round(values[position], 4) for name, values in self.scores.items()},
            "total": round(self.totals[position], 4),
        }


class Chosen(NamedTuple):
    """One choice among candidates, by their positions."""

    position: int
    explanation: Explanation | None
    """Where the request asks for it."""
    runners_up: list[int]
    """The next best, best first, as many as the request wants to fall back on."""


@dataclass(slots=True)
class Profile:
    """One way to choose. Scorers and picker may keep state; a profile belongs to one router."""

    name: str
    filters: Sequence[Filter]
    scorers: Sequence[WeightedScorer]
    picker: Picker
    _weights: NDArray[np.float64] = field(init=False)
    _observers: list[DispatchObserver] = field(init=False)
    _end_observers: list[EndObserver] = field(init=False)
    _steady: list[Filter] = field(init=False)
    _by_request: list[Filter] = field(init=False)
    _steady_slots: dict[ModelRef, Slots] = field(init=False, default_factory=dict)
    """What the steady filters keep for each model, until the fleet changes."""
    _fleet_version: int = field(init=False, default=-1)

    def __post_init__(self) -> None:
        self._weights = np.array([each.weight for each in self.scorers])
        self._observers = [each.scorer for each in self.scorers if isinstance(each.scorer, DispatchObserver)]
        self._end_observers = [each.scorer for each in self.scorers if isinstance(each.scorer, EndObserver)]
        self._steady = [each for each in self.filters if each.steady]
        self._by_request = [each for each in self.filters if not each.steady]

    def eligible(self, request: Request, model: ModelRef, fleet: Fleet) -> Slots:
        """Slots of the replicas that pass all filters."""
        if self._fleet_version != fleet.version:
            self._fleet_version = fleet.version
            self._steady_slots.clear()
        slots = self._steady_slots.get(model)
        if slots is None:
            slots = self._steady_slots[model] = self._filtered(self._steady, request, model, fleet.slots, fleet)
        return self._filtered(self._by_request, request, model, slots, fleet)

    @staticmethod
    def _filtered(filters: list[Filter], request: Request, model: ModelRef, slots: Slots, fleet: Fleet) -> Slots:
        for each in filters:
            slots = each.keep(request, model, slots, fleet)
        return slots

    def choose(self, request: Request, candidates: Candidates, view: View, random: Random) -> Chosen:
        """``candidates`` is not empty."""
        rated, totals = self._rate(request, candidates, view)
        position = self.picker.pick(totals, random)
        explanation = self._explain(request, candidates, rated, totals, position) if request.explain else None
        runners_up = _best(totals, position)[: request.fallbacks] if request.fallbacks else []
        return Chosen(position, explanation, runners_up)

    def dispatched(self, request: Request, candidates: Candidates, position: int, now: float) -> None:
        """The request goes to the candidate that was chosen."""
        for observer in self._observers:
            observer.dispatched(request, candidates, position, now)

    def _rate(self, request: Request, candidates: Candidates, view: View) -> tuple[list[Scores], Scores]:
        """By scorer, and weighted together."""
        rated = [each.scorer.score(request, candidates, view) for each in self.scorers]
        return rated, self._weights @ np.array(rated) if rated else np.zeros(len(candidates))

    def ended(self, ticket: Ticket, usage: Usage | None, now: float) -> None:
        """A request that this profile chose a replica for is over."""
        for observer in self._end_observers:
            observer.ended(ticket, usage, now)

    def _explain(
        self, request: Request, candidates: Candidates, rated: list[Scores], totals: Scores, position: int
    ) -> Explanation:
        names = [replica.name for replica in candidates.replicas]
        return Explanation(
            profile=self.name,
            picker=self.picker.name,
            candidates=names,
            cached_tokens=[int(tokens) for tokens in candidates.cached_tokens],
            prompt_tokens=request.prompt_tokens,
            weights={each.scorer.name: each.weight for each in self.scorers},
            scores={each.scorer.name: values.tolist() for each, values in zip(self.scorers, rated, strict=True)},
            totals=totals.tolist(),
            winner=names[position],
        )


def _best(totals: Scores, without: int) -> list[int]:
    """All positions but ``without``, the best first."""
    order: list[int] = np.argsort(-totals, kind="stable").tolist()
    order.remove(without)
    return order
