"""Figures over load: one panel for each measure, one line for each policy."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter

from sim.bench.report.layout import panels
from sim.bench.report.line_labels import label_lines
from sim.bench.report.measures import Measure
from sim.bench.report.panel import draw_lines
from sim.bench.report.style import looks
from sim.bench.report.summary import Summary


def draw_over_load(
    summary: Summary, workload: str, measures: Sequence[Measure], *, size_in: tuple[float, float], detailed: bool
) -> Figure | None:
    """None when there is nothing to draw. ``size_in``: width, height. ``detailed``: with intervals, and all names."""
    looked = looks(summary.policies, summary.best_other(workload))
    loads = [load for load in summary.loads[workload] if load is not None]
    drawn = []
    for measure in measures:
        series = {policy: summary.series(workload, policy, measure) for policy in looked}
        if any(series.values()):
            drawn.append((measure, series))
    if not drawn:
        return None
    figure, all_axes = panels(len(drawn), *size_in)
    for axes, (measure, series) in zip(all_axes, drawn, strict=True):
        ends = draw_lines(axes, series, measure, looked, intervals=detailed)
        _scale(axes, loads)
        label_lines(axes, [end for end in ends if detailed or end.look.strong])
    return figure


def _scale(axes: Axes, loads: list[float]) -> None:
    room = 0.04 * (loads[-1] - loads[0]) or 0.1
    axes.set_xlim(loads[0] - room, loads[-1] + room)
    axes.xaxis.set_major_locator(FixedLocator(loads))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda load, _: f"{load:g}"))
    axes.set_xlabel("offered load over capacity")
