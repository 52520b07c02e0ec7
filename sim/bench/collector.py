"""Puts together what finished jobs bring, and keeps the file of results up to date."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from sim.bench.curve import curve_point, points_of_rows
from sim.bench.finished import Finished
from sim.bench.gantt import compare
from sim.bench.grid import Grid
from sim.bench.job import Job, Key
from sim.bench.measure import Row
from sim.bench.results import Results, key_of, write_results

_WRITE_EVERY_S = 1.0
"""The file is written as a whole."""


class Collector:
    """Rows come in any order and stand in the grid's. What ``results`` holds already is kept, and needs no job."""

    def __init__(self, grid: Grid, results: Results, directory: Path | None, *, report: bool) -> None:
        """``directory`` None: nothing is written. Without a report, there are no curves and no Gantt charts to make."""
        self.results = results
        self._grid = grid
        self._directory = directory
        self._report = report
        self._rows = _by_key(results.rows)
        self._costs = _by_key(results.costs)
        self._points = _by_key(results.curves)
        self._gantts = {str(gantt["workload"]): gantt for gantt in results.gantts}
        self._followed: defaultdict[str, dict[str, Row]] = defaultdict(dict)
        self._written_s = float("-inf")
        results.failures = []
        row_jobs = grid.row_jobs()
        self._order = {job.key: place for place, job in enumerate(row_jobs)}
        jobs = [replace(job, follows=report and self._wants_steps(job)) for job in row_jobs]
        self.jobs = [job for job in jobs if job.follows or job.key not in self._rows]
        """Those that are still to be run."""
        if report:
            self.jobs += [job for job in grid.curve_jobs() if job.key not in self._points]

    @property
    def progress(self) -> str:
        return f"{sum(key in self._rows for key in self._order)} of {len(self._order)} rows"

    def add(self, finished: Finished) -> None:
        job, outcome = finished.job, finished.outcome
        if outcome is None:
            self.results.failures.append(_identity(job) | {"error": finished.error})
        elif job.for_curve:
            self._points[job.key] = curve_point(outcome.row)
        else:
            self._rows[job.key] = outcome.row
            if outcome.cost is not None:
                self._costs[job.key] = _identity(job) | outcome.cost
            if outcome.followed is not None:
                self._followed[job.source.name][job.policy] = outcome.followed
        if time.monotonic() - self._written_s >= _WRITE_EVERY_S:
            self.write()

    def write(self) -> None:
        """Bring ``results`` and its file up to date. Raises OSError."""
        results = self.results
        results.rows = self._in_order(self._rows)
        results.costs = self._in_order(self._costs)
        if self._report or len(self._grid.cache_blocks) > 1:
            self._points |= _by_key(points_of_rows(self._grid, results.rows))
        results.curves = sorted(self._points.values(), key=_size_order)
        results.gantts = list((self._gantts | self._new_gantts()).values())
        if self._directory is not None:
            write_results(self._directory, results)
        self._written_s = time.monotonic()

    def _wants_steps(self, job: Job) -> bool:
        enough = len(self._grid.policies) > 1
        return enough and self._grid.is_followed(job) and job.source.name not in self._gantts

    def _in_order(self, rows: dict[Key, Row]) -> list[Row]:
        return [rows[key] for key in sorted(rows, key=lambda key: self._order.get(key, -1))]

    def _new_gantts(self) -> dict[str, Row]:
        """Of the workloads of which two policies at least are there."""
        made = {}
        for source in self._grid.sources:
            followed = self._followed[source.name]
            if len(followed) > 1:
                made[source.name] = self._gantt(source.name, followed)
        return made

    def _gantt(self, workload: str, followed: dict[str, Row]) -> Row:
        grid, seed = self._grid, 1
        blocks = grid.cache_blocks[0]

        def completion_s(policy: str) -> float:
            return float(str(self._rows[workload, policy, grid.report_load, seed, blocks]["completion_mean_s"]))

        return compare(workload, grid.report_load, seed, followed, sorted(followed, key=completion_s))


def _by_key(rows: Iterable[Row]) -> dict[Key, Row]:
    return {key_of(row): row for row in rows}


def _identity(job: Job) -> Row:
    workload, policy, load, seed, cache_blocks = job.key
    return {"workload": workload, "policy": policy, "load": load, "seed": seed, "cache_blocks": cache_blocks}


def _size_order(point: Row) -> tuple[object, ...]:
    """By workload and policy, unbounded caches last."""
    blocks = point["cache_blocks"]
    return point["workload"], point["policy"], blocks is None, blocks or 0, point["seed"]
