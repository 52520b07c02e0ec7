"""The tables of a report, as the page and Markdown show them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sim.bench.report.measures import MISSING, TABLE, Measure
from sim.bench.report.summary import Load, Summary, is_bound


@dataclass(slots=True, frozen=True)
class Cell:
    text: str = MISSING
    value: float | None = None
    """What the text stands for, to sort by. None: there is no figure."""
    best: bool = False
    """No policy that a router could follow is better."""


@dataclass(slots=True, frozen=True)
class LoadTable:
    """One workload at one load: a line for each policy, best first."""

    workload: str
    load: Load
    columns: list[Measure]
    rows: list[tuple[str, list[Cell]]]


@dataclass(slots=True, frozen=True)
class RatioTable:
    """One load: mean completion of each policy for each workload, over that of the best there."""

    load: Load
    workloads: list[str]
    rows: list[tuple[str, list[Cell]]]
    """The last cell is the geometric mean over the workloads; None where one is missing. Ascending by it."""


def load_text(load: Load) -> str:
    return "at its own pace" if load is None else f"load {load:g}"


def load_table(summary: Summary, workload: str, load: Load) -> LoadTable:
    """Columns without any figure are left out."""
    policies = summary.ranked(workload, load)
    columns = [measure for measure in TABLE if any(summary.get(workload, load, each, measure) for each in policies)]
    by_column = [_column(summary, workload, load, measure, policies) for measure in columns]
    return LoadTable(
        workload, load, columns, [(policy, list(row)) for policy, *row in zip(policies, *by_column, strict=True)]
    )


def _column(summary: Summary, workload: str, load: Load, measure: Measure, policies: list[str]) -> list[Cell]:
    found = [summary.get(workload, load, policy, measure) for policy in policies]
    rivals = [each.mean for policy, each in zip(policies, found, strict=True) if each and not is_bound(policy)]
    best = _best_text(rivals, measure)
    cells = []
    for policy, interval in zip(policies, found, strict=True):
        if interval is None:
            cells.append(Cell())
            continue
        text = measure.text(interval.mean)
        is_best = text == best and not is_bound(policy)
        if measure.with_interval and interval.half_width:
            text = measure.spread_text(interval.mean, interval.half_width)
        cells.append(Cell(text, interval.mean, is_best))
    return cells


def _best_text(rivals: Sequence[float], measure: Measure) -> str | None:
    """As it is written, so that what reads the same is marked the same. None when all do."""
    if not measure.is_rated or len({measure.text(value) for value in rivals}) < 2:
        return None
    return measure.text(max(rivals) if measure.more_is_better else min(rivals))


def ratio_tables(summary: Summary) -> list[RatioTable]:
    """One for each load at which any workload was run in time."""
    loads = list(dict.fromkeys(load for workload in summary.workloads for load in summary.loads[workload]))
    loads.sort(key=lambda load: -math.inf if load is None else load)
    return [table for load in loads if (table := _ratio_table(summary, load)).rows]


def _ratio_table(summary: Summary, load: Load) -> RatioTable:
    ratios = {workload: found for workload in summary.workloads if (found := summary.relative(workload, load))}
    rows = []
    for policy in summary.policies:
        of_policy = [ratios[workload].get(policy) for workload in ratios]
        known = [ratio for ratio in of_policy if ratio is not None]
        if not known:
            continue
        mean = math.exp(sum(map(math.log, known)) / len(known)) if len(known) == len(of_policy) else None
        rows.append((policy, [_ratio_cell(ratio) for ratio in (*of_policy, mean)]))
    rows.sort(key=lambda row: math.inf if row[1][-1].value is None else row[1][-1].value)
    return RatioTable(load, list(ratios), rows)


def _ratio_cell(ratio: float | None) -> Cell:
    if ratio is None:
        return Cell()
    text = f"{ratio:.2f}"
    return Cell(text, ratio, best=text == "1.00")
