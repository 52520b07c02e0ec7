"""Panels side by side, each with room for names on its right."""

from __future__ import annotations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

_LEFT_IN, _TOP_IN, _BOTTOM_IN = 0.6, 0.4, 0.5
_NAMES_IN = 1.55
_TICKS_IN = 0.35
"""For the numbers on the left of a panel that follows another."""


def panels(count: int, width_in: float, height_in: float) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(width_in, height_in))
    panel_in = (width_in - _LEFT_IN - count * _NAMES_IN - (count - 1) * _TICKS_IN) / count
    figure.subplots_adjust(
        left=_LEFT_IN / width_in,
        right=1 - _NAMES_IN / width_in,
        top=1 - _TOP_IN / height_in,
        bottom=_BOTTOM_IN / height_in,
        wspace=(_NAMES_IN + _TICKS_IN) / panel_in,
    )
    return figure, list(figure.subplots(1, count, squeeze=False)[0])
