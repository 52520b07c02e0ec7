"""Distributions that the parameters of a workload are drawn from."""

from __future__ import annotations

import math
from dataclasses import dataclass
from random import Random


@dataclass(slots=True, frozen=True)
class Range:
    """Uniform from ``low`` to ``high``, both included."""

    low: float
    high: float

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.high:
            raise ValueError(f"a range needs 0 <= low <= high, not {self.low} and {self.high}")

    def draw(self, rng: Random) -> float:
        return rng.uniform(self.low, self.high)

    def whole(self, rng: Random) -> int:
        return rng.randint(round(self.low), round(self.high))


@dataclass(slots=True, frozen=True)
class Lognormal:
    """Heavy-tailed around ``median``, cut at ``low`` and ``high``. ``sigma`` is that of the logarithm."""

    median: float
    sigma: float
    low: float = 0.0
    high: float = math.inf

    def __post_init__(self) -> None:
        if self.median <= 0 or self.sigma < 0 or not 0 <= self.low <= self.high:
            raise ValueError(f"a lognormal needs median > 0, sigma >= 0 and 0 <= low <= high, not {self}")

    def draw(self, rng: Random) -> float:
        return min(self.high, max(self.low, self.median * math.exp(rng.gauss(0.0, self.sigma))))

    def whole(self, rng: Random) -> int:
        return round(self.draw(rng))


Distribution = Range | Lognormal
