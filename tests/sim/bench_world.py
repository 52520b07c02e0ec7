"""What the tests of `weft bench` share: a command line, and grids that take a moment."""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sim.bench import command as bench
from sim.bench.finished import Finished, attempt
from sim.bench.job import Job
from sim.bench.measure import Row

SMALL = ("--workload", "uniform", "--programs", "6", "--replicas", "2", "--seeds", "2")


class Inline:
    """Runs jobs in this process: a test need not wait for others to start."""

    def run(self, jobs: Sequence[Job]) -> Generator[Finished]:
        yield from map(attempt, jobs)


@pytest.fixture
def inline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "Workers", lambda count: Inline())


def weft_bench(*arguments: str | Path) -> Result:
    return CliRunner().invoke(bench.command, [str(each) for each in arguments], catch_exceptions=False)


def rows_in(directory: Path) -> list[Row]:
    rows: list[Row] = results_in(directory)["rows"]
    return rows


def results_in(directory: Path) -> dict[str, list[Row]]:
    read: dict[str, list[Row]] = json.loads((directory / "results.json").read_text())
    return read
