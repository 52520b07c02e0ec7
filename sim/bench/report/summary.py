"""Results of many runs, put together: for each workload, load and policy every figure over the seeds."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from sim.bench.measure import Row
from sim.bench.report.measures import BASELINE, COMPLETION, HIT_RATE, OVER_BASELINE, TABLE, Measure
from sim.bench.results import Results
from sim.bench.statistics import Interval, interval

T = TypeVar("T")
Load = float | None
"""None: the workload came at its own pace, or without time."""

OWN = "weft"
BOUND = "oracle"
"""What a policy's name begins with when it knows what no router can know: a bound, not a rival."""


@dataclass(slots=True)
class Summary:
    """``policies`` and ``workloads`` in the order in which the results name them."""

    workloads: list[str] = field(default_factory=list)
    policies: list[str] = field(default_factory=list)
    intervals: dict[tuple[str, Load, str, str], Interval] = field(default_factory=dict)
    """By workload, load, policy and key of the measure."""
    loads: dict[str, list[Load]] = field(default_factory=dict)
    """Of each workload, ascending."""

    def mention(self, workload: str, policy: str | None = None) -> None:
        """Keeps a place for them."""
        _add_once(self.workloads, workload)
        self.loads.setdefault(workload, [])
        if policy is not None:
            _add_once(self.policies, policy)

    def get(self, workload: str, load: Load, policy: str, measure: Measure) -> Interval | None:
        return self.intervals.get((workload, load, policy, measure.key))

    def ranked(self, workload: str, load: Load) -> list[str]:
        """The policies that were run, best first: by mean completion, or by hit rate where there was no time."""

        def rank(policy: str) -> tuple[float, float]:
            completion = self.get(workload, load, policy, COMPLETION)
            hits = self.get(workload, load, policy, HIT_RATE)
            return (completion.mean if completion else math.inf, -hits.mean if hits else 0.0)

        ran = [policy for policy in self.policies if self._ran(workload, load, policy)]
        return sorted(ran, key=rank)

    def series(self, workload: str, policy: str, measure: Measure) -> list[tuple[float, Interval]]:
        """The measure over the loads."""
        loads = [load for load in self.loads[workload] if load is not None]
        found = ((load, self.get(workload, load, policy, measure)) for load in loads)
        return [(load, interval) for load, interval in found if interval]

    def relative(self, workload: str, load: Load) -> dict[str, float]:
        """Mean completion over that of the best policy that a router could follow."""
        means = {
            policy: found.mean
            for policy in self.policies
            if (found := self.get(workload, load, policy, COMPLETION)) and found.mean > 0
        }
        rivals = [mean for policy, mean in means.items() if not is_bound(policy)] or list(means.values())
        best = min(rivals, default=0.0)
        return {policy: mean / best for policy, mean in means.items()} if best else {}

    def best_other(self, workload: str) -> str | None:
        """The policy, apart from Weft's own, the baseline and bounds, that did best over the loads."""
        logs: defaultdict[str, list[float]] = defaultdict(list)
        for load in self.loads[workload]:
            for policy, ratio in self.relative(workload, load).items():
                logs[policy].append(math.log(ratio))
        rivals = [policy for policy in logs if policy not in (OWN, BASELINE) and not is_bound(policy)]
        most = max((len(logs[policy]) for policy in rivals), default=0)
        complete = [policy for policy in rivals if len(logs[policy]) == most]
        return min(complete, key=lambda policy: sum(logs[policy]), default=None)

    def _ran(self, workload: str, load: Load, policy: str) -> bool:
        return any((workload, load, policy, measure.key) in self.intervals for measure in TABLE)


def is_bound(policy: str) -> bool:
    return policy.startswith(BOUND)


def summarise(results: Results) -> Summary:
    """Figures that a row lacks are left out. With several cache sizes, each is a workload of its own."""
    summary = Summary()
    sizes = {row.get("cache_blocks") for row in results.rows}
    values: defaultdict[tuple[str, Load, str, str], list[float]] = defaultdict(list)
    for row in (*_with_ratios(results.rows), *results.costs):
        workload, policy, load = str(row["workload"]), str(row["policy"]), _number(row.get("load"))
        if len(sizes) > 1:
            workload = f"{workload}, {_cache_text(row.get('cache_blocks'))}"
        summary.mention(workload, policy)
        _add_once(summary.loads[workload], load)
        for measure in TABLE:
            if (value := _number(row.get(measure.key))) is not None:
                values[workload, load, policy, measure.key].append(value)
    for row in results.curves:
        summary.mention(str(row["workload"]), str(row["policy"]))
    for row in results.gantts:
        summary.mention(str(row["workload"]))
    for loads in summary.loads.values():
        loads.sort(key=lambda load: -math.inf if load is None else load)
    summary.intervals = {place: interval(seen) for place, seen in values.items()}
    return summary


def _with_ratios(rows: list[Row]) -> Iterator[Row]:
    """The rows, with mean completion over that of the baseline for the very same programs."""
    baseline = {_run(row): _number(row.get(COMPLETION.key)) for row in rows if row["policy"] == BASELINE}
    for row in rows:
        own, other = _number(row.get(COMPLETION.key)), baseline.get(_run(row))
        yield row | {OVER_BASELINE.key: own / other} if own is not None and other else row


def _run(row: Row) -> tuple[object, ...]:
    return tuple(row.get(key) for key in ("workload", "load", "seed", "cache_blocks"))


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def _add_once(seen: list[T], item: T) -> None:
    if item not in seen:
        seen.append(item)


def _cache_text(blocks: object) -> str:
    return "unbounded caches" if blocks is None else f"{blocks:,} blocks"
