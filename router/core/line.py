"""A straight line through observations, older ones fading out (exponentially weighted least squares)."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

_FADE = 0.97
_LEAST_SPREAD = 0.05


@dataclass(slots=True)
class Line:
    """``y = intercept + slope * x``, of quantities that are never negative. Holds running sums."""

    weight: float = 0.0
    x: float = 0.0
    y: float = 0.0
    xx: float = 0.0
    xy: float = 0.0

    def observe(self, x: float, y: float) -> None:
        self.weight = self.weight * _FADE + 1.0
        self.x = self.x * _FADE + x
        self.y = self.y * _FADE + y
        self.xx = self.xx * _FADE + x * x
        self.xy = self.xy * _FADE + x * y

    @property
    def known(self) -> bool:
        """There is enough to go by."""
        return self.weight >= 3.0 and self.x > 0.0

    def slope(self) -> float:
        """Of the line, or of one through the origin while all observations look alike. Infinite without any."""
        covariance = self.weight * self.xy - self.x * self.y
        variance = self.weight * self.xx - self.x * self.x
        if variance > _LEAST_SPREAD * self.x * self.x and covariance > 0.0:
            return covariance / variance
        return max(self.y, 1e-6) / self.x if self.x > 0.0 else inf

    def intercept(self) -> float:
        """0 or more. Only where the line is `known`."""
        return max(0.0, (self.y - self.slope() * self.x) / self.weight)
