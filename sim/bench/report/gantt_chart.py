"""Gantt charts: one program, step by step, under each of two policies, on the same time axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch, PathPatch
from matplotlib.path import Path as Curve

from sim.bench.report.gantt_step import PHASES, GanttStep
from sim.bench.report.lanes import lanes
from sim.bench.report.line_labels import shortened
from sim.bench.report.measures import three_digits
from sim.bench.report.style import DECODE, GREEN, INK, MUTED, ON_BAR, PREFILL, SOFT, WAITING
from sim.bench.report.svg import step_id

_WIDTH_IN, _TOP_IN, _BOTTOM_IN, _BETWEEN_IN = 11.0, 0.62, 0.45, 0.42
_LANE_IN, _LANES_IN = 0.26, 4.2
"""Height of a lane, and the most that all lanes of a panel get."""
_BAR = 0.56
"""Of a lane's height."""
_COLOURS = (WAITING, PREFILL, DECODE)
_LABEL_FROM = 0.022
"""Share of the time axis that a replica's label takes."""
_STEPS = 120
"""Of longer programs only so many steps are drawn: more could not be told apart."""


def draw_gantt(policies: Mapping[str, Sequence[GanttStep]]) -> Figure | None:
    """The steps of one program under each policy. None when there are none."""
    runs = {policy: sorted(steps, key=lambda step: step.sent_s) for policy, steps in policies.items() if steps}
    if not runs:
        return None
    graph = {step.step: step.after for steps in runs.values() for step in steps}
    lane_of = lanes(dict(islice(graph.items(), _STEPS)))
    lane_count = max(lane_of.values()) + 1
    shown = {policy: [step for step in steps if step.step in lane_of] for policy, steps in runs.items()}
    end_s = max(step.ended_s for steps in shown.values() for step in steps)
    first = f"first {_STEPS} of {len(graph):,} steps; " if len(graph) > _STEPS else ""
    figure, all_axes = _panels(len(runs), max(0.45, min(lane_count * _LANE_IN, _LANES_IN)))
    for axes, (policy, steps) in zip(all_axes, runs.items(), strict=True):
        _draw_program(axes, shown[policy], lane_of, end_s)
        done_s = max(step.ended_s for step in steps)
        axes.set_title(f"{shortened(policy, 60)}: {first}done after {three_digits(done_s)} s", loc="left")
        axes.axvline(done_s, color=INK, linewidth=0.9, linestyle="dashed", zorder=1)
        axes.set_xlim(0, 1.01 * end_s or 1.0)
        axes.set_ylim(lane_count - 0.4, -0.6)
    all_axes[-1].set_xlabel("seconds since the program's start")
    _draw_legend(figure)
    return figure


def _panels(count: int, panel_in: float) -> tuple[Figure, list[Axes]]:
    height_in = _TOP_IN + count * panel_in + (count - 1) * _BETWEEN_IN + _BOTTOM_IN
    figure = Figure(figsize=(_WIDTH_IN, height_in))
    top, bottom = 1 - _TOP_IN / height_in, _BOTTOM_IN / height_in
    figure.subplots_adjust(left=0.03, right=0.985, top=top, bottom=bottom, hspace=_BETWEEN_IN / panel_in)
    return figure, list(figure.subplots(count, 1, squeeze=False, sharex=True)[:, 0])


def _draw_program(axes: Axes, steps: Sequence[GanttStep], lane_of: Mapping[str, int], end_s: float) -> None:
    by_name = {step.step: step for step in steps}
    next_s: dict[int, float] = {}
    for step in reversed(steps):
        lane = lane_of[step.step]
        _draw_step(axes, step, lane)
        _draw_replica(axes, step, lane, next_s.get(lane, end_s), end_s)
        next_s[lane] = step.sent_s
        for before in (by_name[name] for name in step.after if name in by_name):
            _draw_edge(axes, before.ended_s, lane_of[before.step], step.sent_s, lane)
    axes.grid(axis="y", visible=False)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)


def _draw_step(axes: Axes, step: GanttStep, lane: int) -> None:
    spans_s = [(begin_s, end_s - begin_s) for begin_s, end_s in step.spans_s]
    below, cached_s = lane + _BAR / 2 + 0.02, (step.ended_s - step.sent_s) * step.cached_share
    axes.broken_barh(
        spans_s,
        (lane - _BAR / 2, _BAR),
        facecolors=_COLOURS,
        linewidth=0,
        zorder=3,
        clip_on=False,
        gid=step_id(step.describe()),
    )
    axes.broken_barh([(step.sent_s, cached_s)], (below, 0.1), facecolors=GREEN, linewidth=0, zorder=3, clip_on=False)


def _draw_replica(axes: Axes, step: GanttStep, lane: int, next_s: float, end_s: float) -> None:
    """Its number: on the bar, else on its right up to where the next one begins, else nowhere."""
    room_s = _LABEL_FROM * end_s
    on_bar = step.ended_s - step.sent_s >= room_s
    if not on_bar and next_s - step.ended_s < room_s:
        return
    axes.text(
        (step.sent_s if on_bar else step.ended_s) + 0.003 * end_s,
        lane if on_bar else lane - 0.06,
        f"r{step.replica}",
        fontsize=6.5,
        color=ON_BAR if on_bar else SOFT,
        verticalalignment="center_baseline" if on_bar else "bottom",
        zorder=4,
    )


def _draw_edge(axes: Axes, ended_s: float, lane: int, sent_s: float, to_lane: int) -> None:
    """From the end of a step to the start of one that follows it: straight in its own lane, curved between lanes."""
    middle_s = (ended_s + sent_s) / 2
    points = [(ended_s, lane), (middle_s, lane), (middle_s, to_lane), (sent_s, to_lane)]
    curve = Curve(points, [Curve.MOVETO, Curve.CURVE4, Curve.CURVE4, Curve.CURVE4])
    dash = "dotted" if lane == to_lane else "solid"
    axes.add_patch(
        PathPatch(curve, fill=False, edgecolor=MUTED, linewidth=0.6, linestyle=dash, zorder=2, clip_on=False)
    )


def _draw_legend(figure: Figure) -> None:
    handles = [Patch(color=colour, label=phase) for colour, phase in zip(_COLOURS, PHASES, strict=True)]
    handles.append(Patch(color=GREEN, label="below a bar: share of the prompt that was cached"))
    figure.legend(
        handles=handles,
        loc="upper right",
        ncols=len(handles),
        frameon=False,
        fontsize=8,
        handlelength=1,
        labelcolor=SOFT,
    )
