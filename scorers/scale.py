"""Scales that several scorers share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from router.core.types import Scores


def fewest_best(counts: NDArray[np.float64]) -> Scores:
    """1 for the smallest count, 0 for the largest, linear between; all 1 when equal."""
    low, high = counts.min(), counts.max()
    if high == low:
        return np.ones(len(counts))
    scaled: Scores = (high - counts) / (high - low)
    return scaled
