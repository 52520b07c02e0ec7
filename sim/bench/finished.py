"""What becomes of a job, wherever it ran."""

from __future__ import annotations

import traceback
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from typing import Protocol

from sim.bench.job import Job
from sim.bench.simulate import Outcome, simulate


@dataclass(slots=True)
class Finished:
    job: Job
    outcome: Outcome | None
    error: str = ""
    """Why there is no outcome; the last line says it shortest."""


class Backend(Protocol):
    """Processes that run jobs."""

    def run(self, jobs: Sequence[Job]) -> Generator[Finished]:
        """Each job once, as they finish. Closing the iterator ends those that run."""


def attempt(job: Job) -> Finished:
    """Run a job. Whatever goes wrong in it is its own affair: the others go on."""
    try:
        return Finished(job, simulate(job))
    except Exception:
        return Finished(job, None, traceback.format_exc().rstrip())
