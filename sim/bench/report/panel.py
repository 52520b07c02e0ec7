"""One panel of lines: a policy each, those that stand out with the interval of their mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from sim.bench.report.line_labels import LineEnd
from sim.bench.report.measures import Measure, three_digits
from sim.bench.report.style import Look
from sim.bench.report.svg import band_id, series_id
from sim.bench.statistics import Interval

Points = Sequence[tuple[float, Interval]]

_LOG_FROM = 5.0
"""Times that are spread further than this, most over least, get a logarithmic scale."""

_LEAST_SPAN = 20.0
"""Percentage points that an axis of shares covers at least: small differences shall look small."""


def draw_lines(
    axes: Axes,
    series: Mapping[str, Points],
    measure: Measure,
    looked: Mapping[str, Look],
    *,
    intervals: bool = True,
) -> list[LineEnd]:
    """Lines, title and vertical scale; returns where each line ends. Values are in the unit of the rows."""
    ends, drawn = [], []
    for number, (policy, look) in enumerate(looked.items()):
        if not (points := [(x, _scaled(interval, measure)) for x, interval in series.get(policy, ())]):
            continue
        gid = series_id(policy, number)
        xs, means = [x for x, _ in points], [interval.mean for _, interval in points]
        axes.plot(
            xs,
            means,
            linestyle=look.dash,
            color=look.colour,
            linewidth=look.width_pt,
            marker=look.marker,
            markersize=look.mark_pt,
            zorder=2 + look.level,
            gid=gid,
        )
        if look.interval and intervals:
            _draw_intervals(axes, points, look, band_id(policy, number))
        drawn += means
        ends.append(LineEnd(policy, number, look, xs[-1], means[-1]))
    axes.set_title(measure.heading, loc="left")
    _scale(axes, measure, drawn)
    return ends


def _draw_intervals(axes: Axes, points: Points, look: Look, gid: str) -> None:
    """But for those that are wider than their mean: they say nothing, and would cover everything."""
    known = [
        (x, interval.low, interval.high)
        for x, interval in points
        if interval.half_width is not None and interval.half_width < interval.mean
    ]
    if not known:
        return
    xs, lows, highs = zip(*known, strict=True)
    if len(known) > 1:
        axes.fill_between(xs, lows, highs, color=look.colour, alpha=0.12, linewidth=0, zorder=1.5, gid=gid)
    else:
        axes.vlines(xs, lows, highs, color=look.colour, linewidth=look.width_pt, alpha=0.5, gid=gid)


def _scale(axes: Axes, measure: Measure, means: Sequence[float]) -> None:
    """By the means alone: a wide interval is cut off rather than let flatten the lines."""
    least, most = min(means), max(means)
    if measure.unit == "%":
        low = max(0.0, min(least, most - _LEAST_SPAN) - 2.0)
        axes.set_ylim(low, min(100.8, max(most, low + _LEAST_SPAN) + 2.0))
    elif measure.unit == "×":
        low, high = min(least, 1.0), max(most, 1.0)
        room = 0.06 * (high - low) or 0.05
        axes.set_ylim(low - room, high + room)
    elif least > 0 and most / least > _LOG_FROM:
        axes.set_yscale("log")
        axes.set_ylim(least / 1.15, most * 1.15)
        axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.yaxis.set_minor_locator(NullLocator())
    else:
        axes.set_ylim(0.0, 1.08 * most or 1.0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: tick_text(value)))


def tick_text(value: float) -> str:
    text = three_digits(value)
    return text.rstrip("0").rstrip(".") if "." in text else text


def _scaled(interval: Interval, measure: Measure) -> Interval:
    half = interval.half_width
    return Interval(interval.mean * measure.scale, None if half is None else half * measure.scale)
