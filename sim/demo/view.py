"""What a person sees: a live view on a terminal, plain lines elsewhere, a table at the end."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sim.demo.run import Load, Run

TITLE = "Same agents, same replicas: only the router's configuration differs"
REFRESH_S = 0.25
LINE_EVERY_S = 5.0
FULL_BAR_REQUESTS = 16
"""Requests on one replica that fill its bar, unless a replica has more."""


@contextlib.asynccontextmanager
async def shown(console: Console, runs: Sequence[Run]) -> AsyncIterator[None]:
    """Keeps the view up to date inside the block."""
    task = asyncio.create_task(_live(console, runs) if console.is_terminal else _lines(console, runs))
    try:
        yield
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def _live(console: Console, runs: Sequence[Run]) -> None:
    with Live(console=console, auto_refresh=False, transient=True) as live:
        while True:
            live.update(picture(runs, time.perf_counter()), refresh=True)
            await asyncio.sleep(REFRESH_S)


async def _lines(console: Console, runs: Sequence[Run]) -> None:
    """A line when the runs begin, and every few seconds while they go on."""
    last: object = None
    while True:
        now_s = time.perf_counter()
        state = runs[0].started_s, int(_elapsed_s(runs, now_s) / LINE_EVERY_S)
        if state != last:
            console.print(line(runs, now_s), soft_wrap=True, highlight=False)
            last = state
        await asyncio.sleep(REFRESH_S)


def line(runs: Sequence[Run], now_s: float) -> str:
    """All runs so far, in one line."""
    if runs[0].started_s is None:
        return _starting(runs)
    counts = ", ".join(f"{run.way.title} {len(run.calls)}" for run in runs)
    return f"{_elapsed_s(runs, now_s):2.0f} s, answered of {runs[0].planned_calls} requests: {counts}"


def picture(runs: Sequence[Run], now_s: float) -> RenderableType:
    """All runs, and how busy their replicas are."""
    if runs[0].started_s is None:
        replicas: RenderableType = Text(_starting(runs), style="dim")
    else:
        replicas = _replicas(runs)
    return Group(
        Panel(_progress(runs, now_s), title="Weft demo", title_align="left"),
        Panel(replicas, title="requests on each replica: running + waiting", title_align="left"),
    )


def _starting(runs: Sequence[Run]) -> str:
    fleets = f"{len(runs)} times {runs[0].replicas} replicas and a router"
    return f"starting {fleets} (the very first time, it takes half a minute) ..."


def _elapsed_s(runs: Sequence[Run], now_s: float) -> float:
    return max(run.elapsed_s(now_s) for run in runs)


def _progress(runs: Sequence[Run], now_s: float) -> Table:
    table = Table.grid(padding=(0, 2), expand=True)
    table.add_column(no_wrap=True)
    table.add_column(ratio=1)
    headers = ("requests", "agents done", "time", "TTFT", "hit rate")
    for _ in headers:
        table.add_column(justify="right", no_wrap=True)
    table.add_row("", "", *(Text(header, style="dim") for header in headers))
    for run in runs:
        bar = ProgressBar(total=run.planned_calls, completed=len(run.calls))
        summary = run.summary()
        figures = (_seconds(summary.ttft_mean_s), _percent(summary.prefix_hit_rate)) if summary else ("", "")
        requests, elapsed = f"{len(run.calls)}/{run.planned_calls}", f"{run.elapsed_s(now_s):.0f} s"
        done = str(len(run.programs_s))
        table.add_row(Text(run.way.title, style="bold"), bar, requests, done, elapsed, *figures)
    return table


def _replicas(runs: Sequence[Run]) -> Table:
    """A row for each replica, a bar and its figures for each run."""
    table = Table.grid(padding=(0, 1), expand=True)
    table.add_column(no_wrap=True)
    for _ in runs:
        table.add_column(ratio=1)
        table.add_column(no_wrap=True, justify="right")
    table.add_row("", *(cell for run in runs for cell in (Text(run.way.title, style="dim"), "")))
    loads = [load for run in runs for load in run.loads]
    full = max(FULL_BAR_REQUESTS, *(load.running + load.waiting for load in loads))
    for number in range(runs[0].replicas):
        cells = [cell for run in runs for cell in _load_cells(run.loads[number], full)]
        table.add_row(f"replica {number + 1}", *cells)
    return table


def _load_cells(load: Load, full: int) -> tuple[ProgressBar, str]:
    style, requests = "red" if load.waiting else "green", load.running + load.waiting
    bar = ProgressBar(total=full, completed=requests, complete_style=style, finished_style=style)
    return bar, f"{load.running:2d} +{load.waiting:2d} "


def result_table(runs: Sequence[Run]) -> Table:
    """Every run as a column; each but the first is compared with the first."""
    first, *others = [summary for run in runs if (summary := run.summary())]
    table = Table(title=TITLE, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("")
    table.add_column(runs[0].way.title, justify="right", no_wrap=True)
    for run in runs[1:]:
        table.add_column(run.way.title, justify="right", style="bold", no_wrap=True)
        table.add_column("", justify="right", no_wrap=True)
    for name, field, show in _ROWS:
        base = getattr(first, field)
        cells = [(show(getattr(each, field)), compared(getattr(each, field), base)) for each in others]
        table.add_row(name, show(base), *(cell for pair in cells for cell in pair))
    return table


def compared(value: float, base: float) -> str:
    """How many times more or less ``value`` is than ``base``."""
    if not value or not base:
        return ""
    ratio = value / base
    if 0.95 < ratio < 1.05:
        return "the same"
    return f"{ratio:.1f}x more" if ratio > 1 else f"{1 / ratio:.1f}x less"


def _seconds(value: float) -> str:
    return f"{value:.2f} s"


def _percent(value: float) -> str:
    return f"{value:.0%}"


def _count(value: float) -> str:
    return f"{value:,.0f}"


_ROWS = (
    ("completion, mean", "program_mean_s", _seconds),
    ("completion, p95", "program_p95_s", _seconds),
    ("first token, mean", "ttft_mean_s", _seconds),
    ("first token, p95", "ttft_p95_s", _seconds),
    ("prefix hit rate", "prefix_hit_rate", _percent),
    ("tokens computed", "prefill_tokens_computed", _count),
    ("  of these again", "recomputed_tokens", _count),
)
