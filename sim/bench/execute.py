"""Runs a grid from the first job to the report, and keeps what is finished when it is interrupted."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from rich.console import Console

from router.core.index.prefix_index import warm_up
from sim.bench.arriving import arriving
from sim.bench.collector import Collector
from sim.bench.finished import Backend
from sim.bench.grid import Grid
from sim.bench.output import open_results, settings_of
from sim.bench.progress import Display
from sim.bench.report import write_report
from sim.bench.results import Results
from sim.bench.source import Recorded
from sim.bench.table import show

INTERRUPTED = 130
_TOKENS_LIKE_A_REQUEST = 50_000
"""Prompt tokens that take as long to simulate as a request without any."""


def execute(
    grid: Grid,
    make_backend: Callable[[], Backend],
    console: Console,
    *,
    directory: Path | None,
    command: str,
    resume: bool,
    overwrite: bool,
    report: bool,
) -> int:
    """The exit code: 0, 1 when runs failed, 130 when interrupted. Raises ValueError when the grid cannot be run."""
    with _terminated_as_interrupted():
        try:
            weights = _weights(grid, console)
            backend = make_backend()
            results = Results(command, settings_of(grid))
            if directory is not None:
                results = open_results(directory, grid, command, resume=resume, overwrite=overwrite)
            collector = Collector(grid, results, directory, report=report)
            interrupted = _run(collector, backend, console, weights)
            show(results.rows, console)
            if report and directory is not None:
                _report(directory, results, console)
        except KeyboardInterrupt:
            console.print("interrupted", highlight=False)
            return INTERRUPTED
    if results.failures:
        console.print(f"{len(results.failures)} runs failed", style="red", highlight=False)
    return INTERRUPTED if interrupted else 1 if results.failures else 0


def _weights(grid: Grid, console: Console) -> dict[str, float]:
    """What a run of each workload costs, by a look at its first programs; says what is left out of it."""
    weights = {}
    for source in grid.sources:
        if isinstance(source, Recorded) and (trace := source.read(1)).skipped:
            console.print(f"{source.name}: {trace}", markup=False, highlight=False, soft_wrap=True)
        arrival = arriving(source, 1, grid.setting, grid.loads[0])
        weights[source.name] = arrival.work.requests + arrival.work.prompt_tokens / _TOKENS_LIKE_A_REQUEST
        if arrival.dropped_requests:
            limit_tokens = grid.setting.engine.max_model_len_tokens
            console.print(
                f"{source.name}: {arrival.dropped_requests:,} calls left out, longer than {limit_tokens:,} tokens",
                highlight=False,
            )
    return weights


def _run(collector: Collector, backend: Backend, console: Console, weights: dict[str, float]) -> bool:
    """Whether it was interrupted."""
    jobs = sorted(collector.jobs, key=lambda job: -weights[job.source.name])
    try:
        if jobs:
            warm_up()
            with Display(console, jobs, weights) as display, closing(backend.run(jobs)) as outcomes:
                for outcome in outcomes:
                    collector.add(outcome)
                    display.add(outcome)
    except KeyboardInterrupt:
        collector.write()
        console.print(f"interrupted: {collector.progress} kept", highlight=False)
        return True
    collector.write()
    return False


def _report(directory: Path, results: Results, console: Console) -> None:
    if results.rows:
        page, *_ = write_report(directory, results)
        console.print(f"report: {page}", soft_wrap=True, highlight=False)


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM and SIGHUP end it as Ctrl-C does."""
    numbers = (signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.default_int_handler) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
