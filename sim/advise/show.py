"""The advice: a table of the splits that were tried, the best one marked, and the reasons in words."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table

from router.core.disaggregation.demand import TARGET
from router.core.types import Role
from sim.advise.demand import Demand
from sim.advise.split import ALL_BOTH, Split
from sim.advise.trial import Trial, best
from sim.bench.report.measures import (
    COMPLETION,
    DECODE_UTILISATION,
    DISAGGREGATED,
    GOODPUT,
    MISSING,
    PREFILL_UTILISATION,
    TPOT_P99,
    TTFT,
    TTFT_P95,
    Measure,
)
from sim.engine import TransferModel

_COLUMNS: tuple[tuple[Measure, str], ...] = (
    (TTFT, "TTFT ms"),
    (TTFT_P95, "p95 s"),
    (TPOT_P99, "TPOT p99 ms"),
    (COMPLETION, "completion s"),
    (GOODPUT, "good %"),
    (DISAGGREGATED, "elsewhere %"),
    (PREFILL_UTILISATION, "prefill busy %"),
    (DECODE_UTILISATION, "decode busy %"),
)


def table(trials: Sequence[Trial]) -> Table:
    """A line for each split; the best in bold."""
    chosen = best(trials)
    shown = Table(box=SIMPLE_HEAD, pad_edge=False)
    shown.add_column("prefill + decode", no_wrap=True)
    for _, heading in _COLUMNS:
        shown.add_column(heading, justify="right", no_wrap=True)
    for trial in trials:
        cells = [_text(measure, trial.mean(measure.key)) for measure, _ in _COLUMNS]
        shown.add_row(str(trial.split), *cells, style="bold" if trial is chosen else "")
    return shown


def _text(measure: Measure, value: float | None) -> str:
    return MISSING if value is None else measure.text(value)


def reckoning(demand: Demand, proposed: Split, transfer: TransferModel) -> str:
    """What the profile and the workload say before anything is simulated."""
    network = demand.kv_bytes_per_s / (proposed.prefill * transfer.bandwidth_bytes_per_s)
    return (
        f"By the profile, prompts keep {demand.prefill:.2f} replicas busy and answers {demand.decode:.2f} "
        f"({demand.batch:.0f} at once on each). Prefill replicas should be busy for {TARGET[Role.PREFILL]:.0%} of the "
        f"time and decode replicas for {TARGET[Role.DECODE]:.0%}, which is nearest with {proposed}; KV blocks then "
        f"take up {network:.1%} of each prefill replica's network."
    )


def verdict(trials: Sequence[Trial], proposed: Split) -> str:
    """Which split is best in the simulator, and by how much."""
    chosen = best(trials)
    others = [trial for trial in trials if trial is not chosen and trial.split in (ALL_BOTH, proposed)]
    return " ".join([_choice(chosen, proposed), *(_against(chosen, other) for other in others)])


def _choice(chosen: Trial, proposed: Split) -> str:
    if chosen.split == ALL_BOTH:
        return "Leave all replicas in both roles: no split serves this workload better."
    kept = "as reckoned" if chosen.split == proposed else f"not {proposed} as reckoned"
    return f"Take {chosen.split.prefill} prefill and {chosen.split.decode} decode replicas, {kept}."


def _against(chosen: Trial, other: Trial) -> str:
    name = "With all replicas in both roles" if other.split == ALL_BOTH else f"With {other.split}"
    parts = []
    for measure, what in ((GOODPUT, "requests in time"), (COMPLETION, "completion"), (TTFT, "TTFT")):
        mine, theirs = chosen.mean(measure.key), other.mean(measure.key)
        if mine is not None and theirs is not None:
            parts.append(f"{what} {_compared(measure, mine, theirs)}")
    return f"{name}: {', '.join(parts)}."


def _compared(measure: Measure, mine: float, theirs: float) -> str:
    unit = "" if measure.unit == "%" else " "
    return f"{measure.text(theirs)}{unit}{measure.unit} instead of {measure.text(mine)}{unit}{measure.unit}"
