"""The results of a benchmark and the file that they are kept in."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from pathlib import Path

from sim.bench.job import Key
from sim.bench.measure import Row

FILE_NAME = "results.json"


@dataclass(slots=True)
class Results:
    """What ``results.json`` holds. But for ``costs``, equal settings and seeds give equal results."""

    command: str
    """The command line."""
    settings: Row = field(default_factory=dict)
    """All that every row has in common: another run can only add to these results with the same."""
    rows: list[Row] = field(default_factory=list)
    """One for each workload, policy, load and seed; with several cache sizes, for each of those too. ``load`` is None
    where there is none: in a closed loop, and without time."""
    curves: list[Row] = field(default_factory=list)
    """Hit rate over cache size. ``cache_blocks`` of a replica, None: unbounded."""
    gantts: list[Row] = field(default_factory=list)
    """A program of each workload, step by step, under two policies."""
    costs: list[Row] = field(default_factory=list)
    """CPU time of the routers' decisions, for each row."""
    failures: list[Row] = field(default_factory=list)
    """Runs without a row, and why."""


def write_results(directory: Path, results: Results) -> None:
    """Replace the file in one go: whoever reads it finds the old one or the new one. Raises OSError."""
    path = directory / FILE_NAME
    text = json.dumps(asdict(results), indent=1, allow_nan=False) + "\n"
    new = path.with_suffix(".json.new")
    new.write_text(text, encoding="utf-8")
    os.replace(new, path)


def read_results(directory: Path) -> Results:
    """Raises ValueError when the file is not one of ours, OSError when it cannot be read."""
    path = directory / FILE_NAME
    try:
        return Results(**json.loads(path.read_text(encoding="utf-8")))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} is not a file of results: {error}") from error


def key_of(row: Row) -> Key:
    """Which job a row, a cost or a point of a curve is from."""
    return row["workload"], row["policy"], row["load"], row["seed"], row["cache_blocks"]  # type: ignore[return-value]
