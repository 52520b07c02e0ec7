"""Quantiles of positive values in bounded memory, older values fading out.

Values are counted in buckets whose bounds grow by a constant factor, so that each quantile has a bounded relative error
(DDSketch: Masson, Rim, Lee, VLDB 2019). Instead of lowering all old weights with every value, new values weigh more
(forward decay: Cormode et al., ICDE 2009). The published packages decay nothing and bring protobuf along.
"""

from __future__ import annotations

from math import ceil, exp, log

FADE = 0.99
"""What is left of a value's weight after the next one: a sketch rests on the last hundred values or so."""

_GROWTH = log(1.2)
"""Of the buckets' bounds: a quantile is at most 9.1 % off."""
_SMALLEST = 1e-3
_LARGEST = 1e7
_HEAVIEST = 1e12
_LIGHTEST = 1e-6
_MIDDLE = 2 / (1 + exp(_GROWTH))
"""Of a bucket, as a share of its upper bound, such that neither bound is further off than the other."""


class Sketch:
    """At most 127 buckets."""

    __slots__ = ("_newest", "_sum", "_total", "_weights")

    def __init__(self) -> None:
        self._weights: dict[int, float] = {}
        self._newest = 1.0
        self._total = 0.0
        self._sum = 0.0

    def add(self, value: float) -> None:
        """Counts a value; what is below 0.001 counts as 0, what is above 10 million as 10 million."""
        value = min(value, _LARGEST)
        bucket = _bucket(value)
        newest = self._newest / FADE
        self._weights[bucket] = self._weights.get(bucket, 0.0) + newest
        self._total += newest
        self._sum += value * newest
        self._newest = newest
        if newest > _HEAVIEST:
            self._rescale()

    @property
    def observations(self) -> float:
        """How many values it rests on: all of the first ones, at most 1 / (1 - FADE) later."""
        return self._total / self._newest

    def mean(self) -> float:
        """0 when there is no value."""
        return self._sum / self._total if self._total else 0.0

    def quantile(self, share: float) -> float:
        """The value that ``share`` of all values do not exceed; 0 when there is none."""
        left = share * self._total
        value = 0.0
        for bucket in sorted(self._weights):
            value = _value(bucket)
            left -= self._weights[bucket]
            if left <= 0.0:
                break
        return value

    def above(self, value: float) -> float:
        """Share of values that exceed ``value``; 0 when there is none."""
        limit = _bucket(min(value, _LARGEST))
        weight = sum(weight for bucket, weight in self._weights.items() if bucket > limit)
        return weight / self._total if self._total else 0.0

    def _rescale(self) -> None:
        scale = 1.0 / self._newest
        scaled = {bucket: weight * scale for bucket, weight in self._weights.items()}
        self._weights = {bucket: weight for bucket, weight in scaled.items() if weight > _LIGHTEST}
        self._total = sum(self._weights.values())
        self._sum *= scale
        self._newest = 1.0


_ZERO = ceil(log(_SMALLEST) / _GROWTH) - 1


def _bucket(value: float) -> int:
    return ceil(log(value) / _GROWTH) if value >= _SMALLEST else _ZERO


def _value(bucket: int) -> float:
    return exp(bucket * _GROWTH) * _MIDDLE if bucket > _ZERO else 0.0
