"""Mean and percentiles of a figure over programs or calls, as entries of a row."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

_SHARES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


def spread(name: str, values_s: Iterable[float]) -> dict[str, object]:
    """Mean and percentiles (nearest rank); zeros when there is nothing."""
    ascending = np.sort(np.fromiter(values_s, np.float64))
    count = len(ascending)
    row: dict[str, object] = {f"{name}_mean_s": float(ascending.mean()) if count else 0.0}
    for label, share in _SHARES.items():
        row[f"{name}_{label}_s"] = float(ascending[max(0, math.ceil(share * count) - 1)]) if count else 0.0
    return row
