"""All figures of a report: drawn, written as PNGs, and handed on for the page."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from sim.bench.measure import Row
from sim.bench.report.cache_chart import draw_over_cache_size
from sim.bench.report.gantt_chart import draw_gantt
from sim.bench.report.gantt_step import gantt_steps
from sim.bench.report.load_chart import draw_over_load
from sim.bench.report.measures import BASELINE, COMPLETION, COMPLETION_P95, GOODPUT, HIT_RATE, OVER_BASELINE, TTFT_P95
from sim.bench.report.style import RC
from sim.bench.report.summary import Summary
from sim.bench.report.svg import Picture, inline
from sim.bench.results import Results

_DPI = 160

Drawn = tuple[str, str, Figure | None]
"""What it shows, in a word for the file's name; its caption; the figure, if there is anything to draw."""


def draw_figures(summary: Summary, results: Results, directory: Path) -> dict[str, list[Picture]]:
    """The pictures of each workload, in the order of the page. Raises OSError."""
    pictures: dict[str, list[Picture]] = {}
    taken: set[str] = set()
    with matplotlib.rc_context(RC):
        for workload in summary.workloads:
            pictures[workload] = [
                _save(figure, directory / _file_name(workload, kind, taken), caption)
                for kind, caption, figure in _draw(summary, results, workload)
                if figure is not None
            ]
    return pictures


def _draw(summary: Summary, results: Results, workload: str) -> Iterator[Drawn]:
    tall_in = max(3.6, min(5.4, 0.9 + 0.145 * len(summary.policies)))
    figure = draw_over_load(summary, workload, (COMPLETION, COMPLETION_P95), size_in=(11.0, tall_in), detailed=True)
    yield "completion", f"{workload}: program completion time over load, mean and p95", figure
    figure = draw_over_load(summary, workload, (OVER_BASELINE,), size_in=(8.0, tall_in), detailed=True)
    yield "relative", f"{workload}: mean completion over that under {BASELINE}, seed by seed", figure
    figure = draw_over_load(summary, workload, (TTFT_P95, HIT_RATE, GOODPUT), size_in=(11.0, 3.3), detailed=False)
    yield "service", f"{workload}: time to first token (p95), prefix hit rate and goodput over load", figure
    figure = draw_over_cache_size(summary, workload, results.curves)
    yield "cache", f"{workload}: prefix hit rate over the size of each replica's cache", figure
    for gantt in results.gantts:
        if gantt["workload"] == workload:
            steps = {policy: gantt_steps(steps) for policy, steps in gantt["policies"].items()}  # type: ignore[attr-defined]
            yield "gantt", _gantt_caption(gantt), draw_gantt(steps)


def _save(figure: Figure, path: Path, caption: str) -> Picture:
    figure.savefig(path, dpi=_DPI)
    drawn = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": path.name}):
        figure.savefig(drawn, format="svg", metadata={"Date": None}, transparent=True)
    return Picture(path.name, caption, inline(drawn.getvalue(), caption))


def _gantt_caption(gantt: Row) -> str:
    load = gantt.get("load")
    at = "" if load is None else f" at load {load}"
    return f"{gantt['workload']}: program {gantt['program']}{at}, step by step"


def _file_name(workload: str, kind: str, taken: set[str]) -> str:
    """Short, the same for equal results, and safe whatever the workload is called."""
    safe = re.sub(r"[^A-Za-z0-9]+", "-", workload).strip("-")[:60].lower() or "workload"
    name, number = f"{safe}-{kind}.png", 2
    while name in taken:
        name, number = f"{safe}-{kind}-{number}.png", number + 1
    taken.add(name)
    return name
