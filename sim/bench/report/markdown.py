"""The tables of a report in Markdown, for documentation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from sim.bench.report.summary import Summary
from sim.bench.report.tables import Cell, LoadTable, RatioTable, load_table, load_text, ratio_tables


def markdown(summary: Summary) -> str:
    """Completion relative to the best for each load, then a table for each workload and load."""
    parts = [line for table in ratio_tables(summary) for line in _ratios(table)]
    for workload in summary.workloads:
        for load in summary.loads[workload]:
            parts += _load(load_table(summary, workload, load))
    return "\n".join(parts)


def _ratios(table: RatioTable) -> Iterator[str]:
    yield f"### Mean completion over that of the best policy, {load_text(table.load)}\n"
    yield from _table(["policy", *table.workloads, "geometric mean"], table.rows)
    yield ""


def _load(table: LoadTable) -> Iterator[str]:
    yield f"### {_plain(table.workload)}, {load_text(table.load)}\n"
    yield from _table(["policy", *(measure.heading for measure in table.columns)], table.rows)
    yield ""


def _table(headings: Sequence[str], rows: Iterable[tuple[str, Sequence[Cell]]]) -> Iterator[str]:
    yield f"| {' | '.join(map(_plain, headings))} |"
    yield f"|---|{'---:|' * (len(headings) - 1)}"
    for policy, cells in rows:
        texts = (f"**{cell.text}**" if cell.best else cell.text for cell in cells)
        yield f"| {_plain(policy)} | {' | '.join(texts)} |"


def _plain(text: str) -> str:
    """Text that stays within its cell and means nothing in Markdown or HTML."""
    flat = " ".join(text.split())
    return "".join(f"\\{letter}" if letter in r"\`*_|[]<>#" else letter for letter in flat)
