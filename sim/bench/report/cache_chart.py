"""Hit rate over the size of each replica's cache, one line for each policy."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from sim.bench.measure import Row
from sim.bench.report.layout import panels
from sim.bench.report.line_labels import label_lines
from sim.bench.report.measures import HIT_RATE
from sim.bench.report.panel import Points, draw_lines
from sim.bench.report.style import looks
from sim.bench.report.summary import Summary
from sim.bench.statistics import interval

_UNBOUNDED = float("inf")


def draw_over_cache_size(summary: Summary, workload: str, curves: Iterable[Row]) -> Figure | None:
    """``curves`` as in ``results.json``, means over their seeds. None when there are none of the workload."""
    series = _series(row for row in curves if row["workload"] == workload)
    sizes = sorted({tokens for points in series.values() for tokens, _ in points})
    if not sizes:
        return None
    places = _places(sizes)
    placed = {policy: [(places[tokens], rate) for tokens, rate in points] for policy, points in series.items()}
    looked = looks(summary.policies, summary.best_other(workload))
    figure, (axes,) = panels(1, 8.0, 4.0)
    ends = draw_lines(axes, placed, HIT_RATE, looked)
    _scale(axes, places)
    label_lines(axes, ends)
    return figure


def _series(curves: Iterable[Row]) -> dict[str, Points]:
    rates: defaultdict[str, defaultdict[float, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in curves:
        blocks = row["cache_blocks"]
        tokens = _UNBOUNDED if blocks is None else float(str(blocks)) * float(str(row["block_size_tokens"]))
        rates[str(row["policy"])][tokens].append(float(str(row["prefix_hit_rate"])))
    return {
        policy: [(tokens, interval(of_seeds)) for tokens, of_seeds in sorted(sizes.items())]
        for policy, sizes in rates.items()
    }


def _places(sizes: list[float]) -> dict[float, float]:
    """Where on the axis a size stands: at itself, and an unbounded cache twice as far as the largest."""
    largest = max((tokens for tokens in sizes if tokens != _UNBOUNDED), default=1.0)
    return {tokens: 2 * largest if tokens == _UNBOUNDED else tokens for tokens in sizes}


def _scale(axes: Axes, places: dict[float, float]) -> None:
    texts = {place: _size_text(tokens) for tokens, place in places.items()}
    axes.set_xscale("log")
    axes.set_xlim(min(texts) / 1.15, max(texts) * 1.15)
    axes.xaxis.set_major_locator(FixedLocator(list(texts)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda place, _: texts.get(place, "")))
    axes.set_xlabel("cache of each replica, tokens")


def _size_text(tokens: float) -> str:
    if tokens == _UNBOUNDED:
        return "unbounded"
    for unit, size in (("M", 1e6), ("k", 1e3)):
        if tokens >= size:
            return f"{tokens / size:.3g}{unit}"
    return f"{tokens:g}"
