"""Figures inside the page: Matplotlib's SVG made to follow the reader's theme and to name its lines."""

from __future__ import annotations

import re
from dataclasses import dataclass
from html import escape

from sim.bench.report.style import FONT, VARIABLES

_NAMED = re.compile(r'<g id="(series|band|step):(\d*):([^"]*)">')
_NUMBERED = re.compile(r'<g id="[\w.]+_\d+"')
"""Names of Matplotlib's groups: nothing refers to them, and they would be the same in every figure."""

_TAG = re.compile(r"<[^>]*>")
_LONG_NUMBER = re.compile(r"(\.\d\d)\d+")
_PX_PER_PT = 1.44
"""The widest figures, 11 inches, fill the page; letters are as large in all."""

_FONTS_LIKE_IT = "Verdana, sans-serif"
"""Where the reader has not the font that the figures were laid out with: Verdana is as wide."""


@dataclass(slots=True, frozen=True)
class Picture:
    """A figure that was drawn."""

    file_name: str
    """Of the PNG."""
    caption: str
    svg: str
    """An ``svg`` element for the page."""


def series_id(policy: str, number: int) -> str:
    """The ``gid`` of all that is drawn for a policy, by which the page points it out. ``number`` is the policy's."""
    return f"series:{number}:{policy}"


def band_id(policy: str, number: int) -> str:
    """The ``gid`` of the intervals of a policy."""
    return f"band:{number}:{policy}"


def step_id(text: str) -> str:
    """The ``gid`` of a step, with what the page says of it."""
    return f"step::{text}"


def inline(svg: str, caption: str) -> str:
    """An SVG file of Matplotlib's as an element: colours from the page, and a title for what has a ``gid`` of ours."""

    def named(group: re.Match[str]) -> str:
        policy = f' data-policy="{group[2]}"' if group[2] else ""
        return f'<g class="{group[1]}"{policy}><title>{group[3]}</title>'

    def opened(tag: re.Match[str]) -> str:
        width_px = _PX_PER_PT * float(tag[1].split()[2])
        style = f"max-width: {width_px:.0f}px"
        return f'<svg role="img" aria-label="{escape(caption)}" viewBox="{tag[1]}" style="{style}">'

    svg = svg[svg.index("<svg ") :]
    svg = re.sub(r'<svg [^>]*?viewBox="([^"]*)"[^>]*>', opened, svg, count=1)
    svg = re.sub(r"\s*<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = _NUMBERED.sub("<g", _NAMED.sub(named, svg))
    return _TAG.sub(_themed, svg)


def _themed(tag: re.Match[str]) -> str:
    """Hundredths of a point are as fine as anyone sees."""
    text = _LONG_NUMBER.sub(r"\1", tag[0]).replace(f"'{FONT}'", f"'{FONT}', {_FONTS_LIKE_IT}")
    for colour, variable in VARIABLES.items():
        text = text.replace(colour, f"var({variable})")
    return text
