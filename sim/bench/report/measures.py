"""The figures that a report shows: their names, units, how they are written and what they mean."""

from __future__ import annotations

import math
from dataclasses import dataclass

MISSING = "–"
BASELINE = "round-robin"


@dataclass(slots=True, frozen=True)
class Measure:
    key: str
    """In a row of results."""
    title: str
    unit: str
    definition: str
    scale: float = 1.0
    """From the row's unit to ``unit``."""
    more_is_better: bool = False
    is_rated: bool = True
    """One value is better than another."""
    with_interval: bool = False
    """In tables."""

    @property
    def heading(self) -> str:
        return f"{self.title}, {self.unit}" if self.unit else self.title

    def text(self, value: float) -> str:
        """To three digits, in ``unit``."""
        return three_digits(value * self.scale)

    def spread_text(self, value: float, half_width: float) -> str:
        """``mean ± half_width``, both with the decimals of the mean."""
        mean, half = value * self.scale, half_width * self.scale
        decimals = _decimals(mean)
        return f"{mean:,.{decimals}f} ± {half:,.{decimals}f}"


def three_digits(value: float) -> str:
    """Three digits that count, thousands separated: 0.0123, 4.56, 78.9, 1,234. Never in powers of ten."""
    return f"{value:,.{_decimals(value)}f}"


def _decimals(value: float) -> int:
    if not value:
        return 0
    return min(4, max(0, 2 - math.floor(math.log10(abs(value)) + 1e-9)))


COMPLETION = Measure(
    "completion_mean_s",
    "completion, mean",
    "s",
    "From a program's arrival to the end of its last step, tool waits included; mean over the programs.",
    with_interval=True,
)
OVER_BASELINE = Measure(
    "completion_over_baseline",
    f"completion over {BASELINE}",
    "×",
    f"Mean completion over that under {BASELINE}, seed by seed: with the same programs at the same times, so that what "
    "differs between seeds does not blur what differs between policies.",
    with_interval=True,
)
COMPLETION_P95 = Measure("completion_p95_s", "completion, p95", "s", "19 of 20 programs took no longer.")
TTFT_P95 = Measure(
    "ttft_p95_s",
    "TTFT, p95",
    "s",
    "Time to first token: from the moment a client sends a request until its first token is back; p95 over requests.",
)
TTFT = Measure(
    "ttft_mean_s",
    "TTFT, mean",
    "ms",
    "Time to first token, mean over the requests.",
    scale=1e3,
)
TPOT = Measure(
    "tpot_mean_s",
    "TPOT, mean",
    "ms",
    "Time per output token after the first; mean over the requests.",
    scale=1e3,
)
TPOT_P50 = Measure("tpot_p50_s", "TPOT, p50", "ms", "Half of the requests took no longer for a token.", scale=1e3)
TPOT_P99 = Measure("tpot_p99_s", "TPOT, p99", "ms", "99 of 100 requests took no longer for a token.", scale=1e3)
DISAGGREGATED = Measure(
    "disaggregated_share",
    "disaggregated",
    "%",
    "Requests whose prompt another replica computed, over all requests.",
    scale=100,
    is_rated=False,
)
TRANSFER = Measure(
    "transfer_mean_s",
    "transfer, mean",
    "ms",
    "From when the replica that answers had room for a prompt's KV blocks until it had them; mean over the requests "
    "that fetched some.",
    scale=1e3,
)
PREFILL_UTILISATION = Measure(
    "prefill_utilisation",
    "prefill busy",
    "%",
    "Share of the time for which prefill replicas were busy.",
    scale=100,
    is_rated=False,
)
DECODE_UTILISATION = Measure(
    "decode_utilisation",
    "decode busy",
    "%",
    "Share of the time for which decode replicas were busy.",
    scale=100,
    is_rated=False,
)
HIT_RATE = Measure(
    "prefix_hit_rate",
    "hit rate",
    "%",
    "Prompt tokens found in the chosen replica's cache, over all prompt tokens.",
    scale=100,
    more_is_better=True,
)
RECOMPUTED = Measure(
    "recomputed_tokens",
    "recomputed",
    "k tokens",
    "Tokens computed although some replica had computed them before, after evictions and preemptions too.",
    scale=1e-3,
)
IMBALANCE = Measure(
    "imbalance",
    "imbalance",
    "",
    "Most over mean of the prompt tokens that a replica computed; 1 when all computed as many.",
)
JAIN = Measure(
    "jain_programs",
    "Jain",
    "",
    "Jain's index over the programs' progress (least possible over actual time): 1 when all are slowed down alike.",
    more_is_better=True,
)
GOODPUT = Measure(
    "goodput_fraction",
    "goodput",
    "%",
    "Requests that kept the limits for TTFT, TPOT and their program, over all requests.",
    scale=100,
    more_is_better=True,
)
GPU_S = Measure(
    "gpu_s_per_program",
    "GPU time",
    "s/program",
    "Time that replicas were busy, a replica counting as one GPU, over the programs.",
)
DECISION = Measure(
    "decision_us",
    "decision",
    "µs of CPU",
    "CPU time of the router for each request, measured while the simulation ran; differs from run to run.",
)

TABLE = (
    COMPLETION,
    OVER_BASELINE,
    COMPLETION_P95,
    TTFT_P95,
    TPOT,
    TPOT_P50,
    TPOT_P99,
    DISAGGREGATED,
    TRANSFER,
    PREFILL_UTILISATION,
    DECODE_UTILISATION,
    HIT_RATE,
    RECOMPUTED,
    IMBALANCE,
    JAIN,
    GOODPUT,
    GPU_S,
    DECISION,
)
"""Columns of the tables, in their order."""
