"""The names of lines, at their ends instead of in a legend."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes

from sim.bench.report.spread import spread
from sim.bench.report.style import SOFT, Look
from sim.bench.report.svg import series_id

_LINE_PT = 8.6
"""From one name to the next."""
_LONGEST = 22


@dataclass(slots=True, frozen=True)
class LineEnd:
    policy: str
    number: int
    look: Look
    x: float
    y: float


def label_lines(axes: Axes, ends: Sequence[LineEnd]) -> None:
    """Write each name to the right of the axes, none over another, with a thin line to the end of its own.

    The limits of the axes must not change afterwards.
    """
    to_axes = axes.transData + axes.transAxes.inverted()
    marks = [to_axes.transform((end.x, end.y)) for end in ends]
    figure = axes.figure
    height_pt = axes.get_position().height * figure.get_figheight() * 72  # type: ignore[union-attr]
    places = spread([float(y) for _, y in marks], _LINE_PT / height_pt, 0.0, 1.0)
    for end, mark, place in zip(ends, marks, places, strict=True):
        strong, gid = end.look.strong, series_id(end.policy, end.number)
        axes.plot(
            [mark[0], 1.0, 1.035],
            [mark[1], mark[1], place],
            color=end.look.colour,
            linewidth=0.6,
            transform=axes.transAxes,
            clip_on=False,
            scalex=False,
            scaley=False,
            gid=gid,
        )
        axes.text(
            1.045,
            place,
            shortened(end.policy, _LONGEST),
            color=end.look.colour if strong else SOFT,
            fontsize=8 if strong else 7.2,
            fontweight="bold" if strong else "normal",
            verticalalignment="center",
            transform=axes.transAxes,
            gid=gid,
        )


def shortened(name: str, longest: int) -> str:
    return name if len(name) <= longest else f"{name[: longest - 1]}…"
