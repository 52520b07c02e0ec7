"""The results on the terminal: for each workload a line for each load and policy, best in bold."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sim.bench.measure import Row
from sim.bench.report.measures import (
    COMPLETION,
    COMPLETION_P95,
    DISAGGREGATED,
    GOODPUT,
    HIT_RATE,
    IMBALANCE,
    RECOMPUTED,
    TPOT_P99,
    TTFT,
    Measure,
)
from sim.bench.report.summary import is_bound
from sim.bench.statistics import Interval, interval

_HEADINGS = {
    COMPLETION: "completion s",
    COMPLETION_P95: "p95 s",
    HIT_RATE: "hit %",
    RECOMPUTED: "recomputed k",
    GOODPUT: "good %",
    IMBALANCE: "imbalance",
    TTFT: "TTFT ms",
    TPOT_P99: "TPOT p99 ms",
    DISAGGREGATED: "elsewhere %",
}
_TIMED = (COMPLETION, COMPLETION_P95, HIT_RATE, RECOMPUTED, GOODPUT)
_UNTIMED = (HIT_RATE, IMBALANCE)
_OF_ROLES = (COMPLETION, TTFT, TPOT_P99, DISAGGREGATED, HIT_RATE, GOODPUT)

_Group = tuple[object, object]
"""Load and cache size: within a group policies are compared."""


def show(rows: Iterable[Row], console: Console) -> None:
    """A table for each workload, in the order of the rows."""
    by_workload: defaultdict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_workload[str(row["workload"])].append(row)
    for workload, own in by_workload.items():
        replicas, seeds = own[0]["replicas"], len({row["seed"] for row in own})
        console.print(f"{workload}: replicas {replicas}, seeds {seeds}", style="bold", highlight=False)
        console.print(_table(own))


def _table(rows: Sequence[Row]) -> Table:
    columns = _columns(rows[0])
    groups: defaultdict[_Group, defaultdict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        groups[row["load"], row["cache_blocks"]][str(row["policy"])].append(row)
    place_of = {group: _place(group, groups) for group in groups}
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in next(iter(place_of.values())):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("policy", no_wrap=True)
    for column in columns:
        table.add_column(_HEADINGS[column], justify="right", no_wrap=True)
    for group, by_policy in groups.items():
        place = list(place_of[group].values())
        for cells in _lines(by_policy, columns):
            table.add_row(*place, *cells)
            place = [""] * len(place)
        table.add_section()
    return table


def _columns(row: Row) -> Sequence[Measure]:
    if DISAGGREGATED.key in row:
        return _OF_ROLES
    return _TIMED if COMPLETION.key in row else _UNTIMED


def _place(group: _Group, groups: Collection[_Group]) -> dict[str, str]:
    """What tells a group from the others, by heading."""
    load, blocks = group
    place = {} if load is None else {"load": f"{load:g}"}
    if len({size for _, size in groups}) > 1:
        place["blocks"] = "unbounded" if blocks is None else f"{blocks:,}"
    return place


def _lines(by_policy: dict[str, list[Row]], columns: Sequence[Measure]) -> Iterator[list[Text]]:
    found = {policy: [_interval(rows, column) for column in columns] for policy, rows in by_policy.items()}
    rivals = [intervals for policy, intervals in found.items() if not is_bound(policy)]
    best = [_best(column, [each[place].mean for each in rivals]) for place, column in enumerate(columns)]
    for policy, intervals in found.items():
        cells = [_cell(*each) for each in zip(columns, intervals, best, strict=True)]
        yield [Text(policy), *cells]


def _interval(rows: Sequence[Row], column: Measure) -> Interval:
    return interval([float(str(row[column.key])) for row in rows])


def _best(column: Measure, means: Sequence[float]) -> str | None:
    """As it is written: what reads the same is as good. None when all do."""
    if not column.is_rated or len({_text(column, mean) for mean in means}) < 2:
        return None
    return _text(column, max(means) if column.more_is_better else min(means))


def _cell(column: Measure, found: Interval, best: str | None) -> Text:
    text = _text(column, found.mean)
    style = "bold" if text == best else ""
    if column is COMPLETION and found.half_width is not None:
        text = column.spread_text(found.mean, found.half_width)
    return Text(text, style)


def _text(column: Measure, value: float) -> str:
    """Hit rates to the hundredth of a percent: without time they are exact."""
    return f"{value:.2%}".removesuffix("%") if column is HIT_RATE else column.text(value)
