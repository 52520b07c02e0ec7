"""How figures look: colours that colour-blind people tell apart, and who gets which.

Figures are drawn once, in the colours below. In the page each becomes a CSS variable, so that it follows the reader's
light or dark theme. The strong colours are from Okabe and Ito's palette (jfly.uni-koeln.de/color, 2008).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from sim.bench.report.measures import BASELINE
from sim.bench.report.summary import OWN, is_bound

FONT = "DejaVu Sans"
"""Comes with Matplotlib."""

INK = "#1f2430"
SOFT = "#5d6573"
MUTED = "#a9b0bb"
GRID = "#e4e7ec"
PAPER = "#ffffff"
BLUE = "#0072b2"
VERMILLION = "#d55e00"
GREEN = "#009e73"
WAITING = "#c5cad3"
PREFILL = "#e69f00"
DECODE = "#56b4e9"
ON_BAR = "#000000"
"""Legible on each of the three shades, in both themes."""

VARIABLES = {
    INK: "--ink",
    SOFT: "--soft",
    MUTED: "--muted",
    GRID: "--grid",
    PAPER: "--paper",
    BLUE: "--own",
    VERMILLION: "--baseline",
    GREEN: "--best",
    WAITING: "--waiting",
    PREFILL: "--prefill",
    DECODE: "--decode",
}

RC: dict[Any, Any] = {
    "font.family": FONT,
    "font.size": 9,
    "text.parse_math": False,
    "text.color": INK,
    "axes.labelcolor": SOFT,
    "axes.edgecolor": MUTED,
    "axes.facecolor": PAPER,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlepad": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "ytick.minor.size": 0,
    "figure.facecolor": PAPER,
    "svg.fonttype": "none",
}


@dataclass(slots=True, frozen=True)
class Look:
    """Of one policy's line."""

    colour: str
    width_pt: float
    dash: str = "solid"
    marker: str = "o"
    mark_pt: float = 5.0
    level: int = 1
    """What lies above what."""
    strong: bool = True
    interval: bool = True


MUTE = Look(MUTED, 0.9, mark_pt=2.2, level=1, strong=False, interval=False)
_OWN = Look(BLUE, 2.4, level=4)
_BASELINE = Look(VERMILLION, 1.8, marker="s", level=2)
_BEST = Look(GREEN, 1.8, marker="^", level=3)
_BOUND = Look(INK, 1.2, dash="dashed", marker="D", level=2, interval=False)


def looks(policies: Iterable[str], best_other: str | None) -> dict[str, Look]:
    """Weft, the baseline, bounds and the best of the others stand out."""
    return {policy: _look(policy, best_other) for policy in policies}


def _look(policy: str, best_other: str | None) -> Look:
    if policy == OWN:
        return _OWN
    if policy == BASELINE:
        return _BASELINE
    if is_bound(policy):
        return _BOUND
    return _BEST if policy == best_other else MUTE
