"""Labels beside each other: moved apart as little as it takes for none to cover another."""

from __future__ import annotations

from collections.abc import Sequence


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Positions within ``low`` to ``high``, at least ``gap`` apart and in the order of ``wanted``.

    The sum of squared moves is the least there is (isotonic regression by pooling neighbours that violate the order).
    When there are too many for the room, the gap becomes what fits.
    """
    count = len(wanted)
    if count > 1:
        gap = min(gap, (high - low) / (count - 1))
    order = sorted(range(count), key=lambda i: wanted[i])
    pools: list[tuple[float, int]] = []
    for place, i in enumerate(order):
        mean, size = wanted[i] - place * gap, 1
        while pools and pools[-1][0] > mean:
            above, more = pools.pop()
            mean, size = (mean * size + above * more) / (size + more), size + more
        pools.append((mean, size))
    last = high - (count - 1) * gap
    starts = [max(low, min(last, mean)) for mean, size in pools for _ in range(size)]
    positions = [0.0] * count
    for place, (i, start) in enumerate(zip(order, starts, strict=True)):
        positions[i] = start + place * gap
    return positions
