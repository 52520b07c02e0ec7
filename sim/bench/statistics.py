"""What several seeds say together: their mean and its 95 % confidence interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

_T_975 = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
"""97.5 % quantiles of Student's t distribution for 1 to 30 degrees of freedom."""

_Z_975 = 1.959964


@dataclass(slots=True, frozen=True)
class Interval:
    mean: float
    half_width: float | None
    """Of the interval that holds the true mean with a confidence of 95 %. None: a single value tells nothing of it."""

    @property
    def low(self) -> float:
        return self.mean - (self.half_width or 0.0)

    @property
    def high(self) -> float:
        return self.mean + (self.half_width or 0.0)


def interval(values: Sequence[float]) -> Interval:
    """Student's t interval of independent values. Raises ValueError when there is none."""
    if not values:
        raise ValueError("no value, no mean")
    count = len(values)
    if count == 1:
        return Interval(float(values[0]), None)
    return Interval(fmean(values), t_975(count - 1) * stdev(values) / math.sqrt(count))


def t_975(freedom: int) -> float:
    """97.5 % quantile of Student's t distribution; above 30 degrees of freedom by its expansion around the normal one
    (Abramowitz and Stegun, 26.7.5)."""
    if freedom <= len(_T_975):
        return _T_975[freedom - 1]
    z = _Z_975
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
