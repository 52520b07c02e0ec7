"""How far the grid is: a bar with the time left, or a plain line now and then where there is no terminal."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from sim.bench.finished import Finished
from sim.bench.job import Job

_LINE_EVERY_S = 15.0


class Display:
    """Shows the share of the work that is done; ``weights`` says what a job of a workload costs."""

    def __init__(self, console: Console, jobs: Sequence[Job], weights: Mapping[str, float]) -> None:
        self._console = console
        self._weights = weights
        self._runs, self._work = len(jobs), sum(weights[job.source.name] for job in jobs)
        self._done = self._failed = 0
        self._work_done = 0.0
        self._began_s = self._line_s = time.monotonic()
        columns = (BarColumn(None), TextColumn("{task.fields[state]}"), TimeElapsedColumn())
        self._bar = Progress(*columns, console=console, disable=not console.is_terminal, transient=True)
        self._task = self._bar.add_task("", total=self._work, state=self._state())

    def __enter__(self) -> Display:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def add(self, finished: Finished) -> None:
        job = finished.job
        self._done += 1
        self._work_done += self._weights[job.source.name]
        if finished.outcome is None:
            self._failed += 1
            self._console.print(f"failed: {name_of(job)}: {_last_line(finished.error)}", markup=False, soft_wrap=True)
        self._bar.update(self._task, completed=self._work_done, state=self._state())
        if not self._console.is_terminal and time.monotonic() - self._line_s >= _LINE_EVERY_S:
            self._line_s = time.monotonic()
            self._console.print(self._state(), highlight=False)

    def _state(self) -> str:
        failed = f", {self._failed} failed" if self._failed else ""
        return f"{self._done} of {self._runs} runs{failed}{self._left()}"

    def _left(self) -> str:
        if not self._done:
            return ""
        elapsed_s = time.monotonic() - self._began_s
        left_s = elapsed_s * (self._work / self._work_done - 1.0)
        return f", {_duration(left_s)} left"


def name_of(job: Job) -> str:
    load = "" if job.load is None else f" at load {job.load:g}"
    return f"{job.source.name} under {job.policy}{load}, seed {job.seed}"


def _last_line(text: str) -> str:
    return text.rsplit("\n", 1)[-1]


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
