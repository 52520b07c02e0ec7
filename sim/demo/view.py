"""What a person sees: a live view on a terminal, plain lines elsewhere, a table at the end."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from sim.demo.measure import Summary, requests_by_replica, summarise
from sim.demo.run import Load, Run

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
    """A line when a run begins, and every few seconds while it goes on."""
    last: object = None
    while True:
        run, now_s = _current(runs), time.perf_counter()
        state = run.key, run.started_s, int(run.elapsed_s(now_s) / LINE_EVERY_S)
        if state != last:
            console.print(line(run, now_s), soft_wrap=True, highlight=False)
            last = state
        await asyncio.sleep(REFRESH_S)


def line(run: Run, now_s: float) -> str:
    """One run so far, in one line."""
    if run.started_s is None:
        return f"{run.title}: {_starting(run)}"
    progress = f"{run.title}: {run.elapsed_s(now_s):.0f} s, {len(run.calls)}/{run.planned_calls} requests"
    summary = summarise(run.calls)
    if summary is None:
        return progress
    return f"{progress}, TTFT mean {_seconds(summary.ttft_mean_s)}, hit rate {_percent(summary.prefix_hit_rate)}"


def picture(runs: Sequence[Run], now_s: float) -> RenderableType:
    """All runs, and how busy the replicas of the one that goes on are."""
    current = _current(runs)
    if current.started_s is None:
        replicas: RenderableType = Text(_starting(current), style="dim")
    else:
        replicas = _replicas(current.loads)
    return Group(
        Panel(_progress(runs, now_s), title="Weft demo", title_align="left"),
        Panel(replicas, title=f"replicas under {current.title}", title_align="left"),
    )


def _starting(run: Run) -> str:
    return f"starting {run.replicas} replicas and the router (the very first time, it takes half a minute) ..."


def _current(runs: Sequence[Run]) -> Run:
    return next((run for run in runs if run.ended_s is None), runs[-1])


def _progress(runs: Sequence[Run], now_s: float) -> Table:
    table = Table.grid(padding=(0, 2), expand=True)
    table.add_column(no_wrap=True)
    table.add_column(ratio=1)
    headers = ("requests", "time", "TTFT mean", "TTFT p95", "hit rate")
    for _ in headers:
        table.add_column(justify="right", no_wrap=True)
    table.add_row("", "", *(Text(header, style="dim") for header in headers))
    for run in runs:
        bar = ProgressBar(total=run.planned_calls, completed=len(run.calls))
        summary = summarise(run.calls)
        figures = _live_figures(summary) if summary else ("", "", "")
        requests, elapsed = f"{len(run.calls)}/{run.planned_calls}", f"{run.elapsed_s(now_s):.0f} s"
        table.add_row(Text(run.title, style="bold"), bar, requests, elapsed, *figures)
    return table


def _live_figures(summary: Summary) -> tuple[str, str, str]:
    return _seconds(summary.ttft_mean_s), _seconds(summary.ttft_p95_s), _percent(summary.prefix_hit_rate)


def _replicas(loads: Sequence[Load]) -> Table:
    table = Table.grid(padding=(0, 2), expand=True)
    table.add_column(no_wrap=True)
    table.add_column(ratio=1)
    table.add_column(justify="right", no_wrap=True)
    full = max(FULL_BAR_REQUESTS, *(load.running + load.waiting for load in loads))
    for number, load in enumerate(loads, start=1):
        style = "red" if load.waiting else "green"
        bar = ProgressBar(total=full, completed=load.running + load.waiting, complete_style=style, finished_style=style)
        table.add_row(f"replica {number}", bar, f"{load.running:2d} running {load.waiting:2d} waiting")
    return table


def result_table(runs: Sequence[Run]) -> Table:
    """Every finished run as a column; each but the first is compared with the first."""
    first, *others = [summary for run in runs if (summary := summarise(run.calls))]
    table = Table(title="Same agents, same replicas: only the routing differs", title_justify="left")
    table.add_column("")
    table.add_column(runs[0].title, justify="right")
    for run in runs[1:]:
        table.add_column(run.title, justify="right", style="bold")
        table.add_column("", justify="right")
    for name, field, show in _ROWS:
        base = getattr(first, field)
        cells = [(show(getattr(each, field)), compared(getattr(each, field), base)) for each in others]
        table.add_row(name, show(base), *(cell for pair in cells for cell in pair))
    for name, field in (("requests", "requests"), ("errors", "errors")):
        cells = [(str(getattr(each, field)), "") for each in others]
        table.add_row(name, str(getattr(first, field)), *(cell for pair in cells for cell in pair))
    spread = [" ".join(map(str, _spread(run))) for run in runs]
    table.add_row("requests per replica", spread[0], *(cell for each in spread[1:] for cell in (each, "")))
    return table


def _spread(run: Run) -> list[int]:
    counts = list(requests_by_replica(run.calls).values())
    return counts + [0] * (run.replicas - len(counts))


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
    ("time to first token, mean", "ttft_mean_s", _seconds),
    ("time to first token, p95", "ttft_p95_s", _seconds),
    ("end to end, mean", "e2e_mean_s", _seconds),
    ("end to end, p95", "e2e_p95_s", _seconds),
    ("prefix hit rate", "prefix_hit_rate", _percent),
    ("prompt tokens computed", "prefill_tokens_computed", _count),
)
