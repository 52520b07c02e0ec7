"""What splits are like in the simulator, and which of them is best."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from sim.advise.split import ALL_BOTH, Split, neighbours
from sim.bench.finished import Finished
from sim.bench.job import Job
from sim.bench.measure import Row
from sim.engine import TransferModel

RunJobs = Callable[[Sequence[Job]], Iterable[Finished]]


@dataclass(slots=True, frozen=True)
class Trial:
    """A split, and its rows: one for each seed."""

    split: Split
    rows: tuple[Row, ...]

    def mean(self, key: str) -> float | None:
        """Over the seeds; None where there is no such figure."""
        if any(key not in row for row in self.rows):
            return None
        return sum(float(str(row[key])) for row in self.rows) / len(self.rows)

    @property
    def badness(self) -> tuple[float, float]:
        """Requests that were too slow, to the percent; among equals, mean completion."""
        good, completion_s = self.mean("goodput_fraction"), self.mean("completion_mean_s")
        return -round(good or 0.0, 2), completion_s or 0.0


def best(trials: Iterable[Trial]) -> Trial:
    return min(trials, key=lambda trial: trial.badness)


def try_splits(first: Split, jobs: Sequence[Job], transfer: TransferModel, run: RunJobs) -> list[Trial]:
    """The first split, its neighbours and the fleet without roles; then on, as long as the best split has a neighbour
    that was not tried. ``jobs``: of the fleet without roles, one for each seed. Raises ValueError when a run fails."""
    trials: dict[Split, Trial] = {}
    wanted = [ALL_BOTH, first, *neighbours(first)]
    while wanted:
        trials |= _tried(wanted, jobs, transfer, run)
        split = best(trial for trial in trials.values() if trial.split != ALL_BOTH).split
        wanted = [each for each in neighbours(split) if each not in trials]
    return [trials[split] for split in sorted(trials)]


def _tried(splits: Sequence[Split], jobs: Sequence[Job], transfer: TransferModel, run: RunJobs) -> dict[Split, Trial]:
    by_job = {_with_roles(job, split, transfer): split for split in splits for job in jobs}
    rows: dict[Split, dict[int, Row]] = {split: {} for split in splits}
    for finished in run(list(by_job)):
        if finished.outcome is None:
            raise ValueError(f"the run of split {by_job[finished.job]} failed: {finished.error.splitlines()[-1]}")
        rows[by_job[finished.job]][finished.job.seed] = finished.outcome.row
    return {split: Trial(split, tuple(row for _, row in sorted(found.items()))) for split, found in rows.items()}


def _with_roles(job: Job, split: Split, transfer: TransferModel) -> Job:
    if split == ALL_BOTH:
        return job
    setting = replace(job.setting, prefill=split.prefill, decode=split.decode, transfer=transfer)
    return replace(job, setting=setting)
