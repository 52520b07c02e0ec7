"""The directory that results go to: new, continued, or replaced."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from sim.bench.grid import Grid
from sim.bench.measure import Row
from sim.bench.results import FILE_NAME, Results, read_results, write_results


def open_results(directory: Path, grid: Grid, command: str, *, resume: bool, overwrite: bool) -> Results:
    """Results to add rows to; the file is there afterwards. Raises ValueError when the directory cannot be used."""
    results = Results(command, settings_of(grid))
    path = directory / FILE_NAME
    try:
        directory.mkdir(parents=True, exist_ok=True)
        if path.exists() and not overwrite:
            if not resume:
                raise ValueError(f"{path} is there already: add to it with --resume, or replace it with --overwrite")
            results = _continued(read_results(directory), results)
        write_results(directory, results)
    except OSError as error:
        raise ValueError(f"cannot write results to {directory}: {error.strerror}") from error
    return results


def settings_of(grid: Grid) -> Row:
    """What rows must have in common to stand beside each other, by name; the parts of a part after a dot."""
    settings = dict(_flat("", asdict(grid.setting)))
    return settings | {f"programs.{source.name}": str(source) for source in grid.sources}


def _flat(name: str, value: object) -> Iterator[tuple[str, object]]:
    if isinstance(value, dict):
        for key, part in value.items():
            yield from _flat(f"{name}.{key}" if name else key, part)
    else:
        yield name, str(value) if isinstance(value, float) and math.isinf(value) else value


def _continued(old: Results, new: Results) -> Results:
    for name, value in new.settings.items():
        if name in old.settings and old.settings[name] != value:
            raise ValueError(
                f"these results were made with other settings: {name} was {old.settings[name]} and is {value} now; "
                "choose another --out, or replace them with --overwrite"
            )
    old.settings |= new.settings
    old.command = new.command
    return old
