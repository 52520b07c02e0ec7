"""Decisions by one criterion after the other, as scores."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from router.core.types import Scores


def lexicographic(*keys: NDArray[np.float64] | NDArray[np.bool_]) -> Scores:
    """Ranks candidates by the first key, equals by the second, and so on; least is best, and so is False.

    1 for the best, 0 for the worst, equal steps between; candidates that are equal in all keys score alike. Only the
    order says anything: such a scorer decides alone, and a profile has no use for another one beside it.
    """
    table = np.array(keys, np.float64)
    order = np.lexsort(table[::-1])
    ascending = table[:, order]
    ranks = np.concatenate(([0], (ascending[:, 1:] != ascending[:, :-1]).any(axis=0).cumsum()))
    scores = np.empty(len(order))
    scores[order] = 1.0 - ranks / max(int(ranks[-1]), 1)
    return scores
