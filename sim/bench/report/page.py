"""The page: everything in one file, filled into ``page.html.jinja``."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from sim.bench.report.measures import BASELINE, TABLE
from sim.bench.report.summary import BOUND, OWN, Summary
from sim.bench.report.svg import Picture
from sim.bench.report.tables import load_table, load_text, ratio_tables
from sim.bench.results import Results
from sim.policies.catalogue import POLICIES

_HOTTEST = 4.0
"""A ratio to the best from which on the colour stays the same."""


def render_page(summary: Summary, results: Results, pictures: Mapping[str, Sequence[Picture]]) -> str:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["inline"] = Markup
    environment.filters["heat"] = _heat
    environment.filters["load_text"] = load_text
    return environment.get_template("page.html.jinja").render(
        summary=summary,
        results=results,
        pictures=pictures,
        ratios=ratio_tables(summary),
        tables={
            workload: [load_table(summary, workload, load) for load in summary.loads[workload]]
            for workload in summary.workloads
        },
        numbers={policy: number for number, policy in enumerate(summary.policies)},
        loads=list(dict.fromkeys(load for loads in summary.loads.values() for load in loads)),
        measures=TABLE,
        own=OWN,
        baseline=BASELINE,
        bound=BOUND,
        lines={policy: POLICIES[policy].line for policy in summary.policies if policy in POLICIES},
        seeds=len({str(row.get("seed")) for row in results.rows}),
    )


def _heat(ratio: float) -> str:
    """How hot a ratio is, 0..100 %: by its logarithm."""
    return f"{100 * min(1.0, math.log(max(1.0, ratio)) / math.log(_HOTTEST)):.0f}%"
