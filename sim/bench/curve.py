"""Hit rate over the size of each replica's cache.

With a single cache size the curve is timed: the first seed of the grid's middle load is run again with caches of other
sizes, programs and arrivals unchanged. With several cache sizes, or without time, the rows themselves are the curve.
"""

from __future__ import annotations

from collections.abc import Iterable

from sim.bench.grid import Grid
from sim.bench.measure import Row

_KEYS = ("workload", "policy", "load", "seed", "cache_blocks", "block_size_tokens", "prefix_hit_rate")


def curve_point(row: Row) -> Row:
    return {key: row[key] for key in _KEYS}


def points_of_rows(grid: Grid, rows: Iterable[Row]) -> list[Row]:
    """The points that need no run of their own. None where there is but one size."""
    timed = bool(grid.curve_jobs())
    if not timed and len(grid.cache_blocks) < 2:
        return []
    here = (row for row in rows if row["load"] == grid.report_load)
    return [curve_point(row) for row in here if not timed or row["seed"] == 1]
