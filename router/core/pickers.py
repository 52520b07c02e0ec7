"""Pickers: which of the scored candidates gets the request. ``scores`` are the weighted sums, not clipped."""

from __future__ import annotations

from random import Random
from typing import Protocol

import numpy as np

from router.core.types import Scores

_TIE = 1e-9


class Picker(Protocol):
    """Returns a position in ``scores``, which is never empty."""

    name: str

    def pick(self, scores: Scores, random: Random) -> int: ...


class MaxScore:
    """The best score; equals are drawn at random, so that idle replicas share the work."""

    name = "max-score"

    def pick(self, scores: Scores, random: Random) -> int:
        best = int(scores.argmax())
        tied = scores >= scores[best] - _TIE
        if np.count_nonzero(tied) == 1:
            return best
        positions: list[int] = tied.nonzero()[0].tolist()
        return random.choice(positions)


class WeightedRandom:
    """Draws in proportion to the scores: gentler than the maximum when many routers decide at once."""

    name = "weighted-random"

    def pick(self, scores: Scores, random: Random) -> int:
        weights = np.maximum(scores, 0.0)
        if not weights.any():
            return random.randrange(len(scores))
        return random.choices(range(len(scores)), weights.tolist())[0]


class PowerOfTwo:
    """The better of two candidates drawn at random (Mitzenmacher, 2001)."""

    name = "power-of-two"

    def pick(self, scores: Scores, random: Random) -> int:
        if len(scores) == 1:
            return 0
        one, two = random.sample(range(len(scores)), 2)
        return one if scores[one] >= scores[two] else two


class RoundRobin:
    """Each candidate in turn, whatever the scores: the baseline that others are compared with."""

    name = "round-robin"

    def __init__(self) -> None:
        self._turn = 0

    def pick(self, scores: Scores, random: Random) -> int:
        self._turn += 1
        return self._turn % len(scores)
