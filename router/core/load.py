"""What each replica is busy with: work sent and not finished, corrected by what the replica reports.

Weft's own requests are counted exactly, the moment they leave and return. Reports are up to a poll interval old, so
they only add what Weft cannot know: requests that came from elsewhere.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from router.core.rates import PRIOR_TOKENS_PER_S, PrefillRate
from router.core.types import LoadReport

Column = NDArray[np.float64]

_MEAN_FADE = 0.98


class Load:
    """Per-replica columns by slot, all float64.

    ==================  =======================================================================
    queued              own requests whose prefill has not been answered yet
    started             own requests that are answering
    prefill_tokens      prompt tokens of ``queued`` requests that must be computed
    context_tokens      prompt tokens of all own requests: what their decoding holds in KV
    foreign_queued      requests waiting there that Weft did not send, by the last report
    foreign_running     requests running there that Weft did not send, by the last report
    kv_usage            share of KV blocks in use, 0..1, by the last report
    capacity_tokens     KV capacity, 0 when unknown
    prefill_rate        tokens per second, learned; the fleet's mean until then
    mean_uncached       running mean of prompt tokens to compute per request
    ==================  =======================================================================
    """

    __slots__ = (
        "active_adapters",
        "capacity_tokens",
        "context_tokens",
        "foreign_queued",
        "foreign_running",
        "kv_usage",
        "mean_uncached",
        "prefill_rate",
        "prefill_tokens",
        "queued",
        "rates",
        "started",
    )

    _COLUMNS = (
        "queued",
        "started",
        "prefill_tokens",
        "context_tokens",
        "foreign_queued",
        "foreign_running",
        "kv_usage",
        "capacity_tokens",
        "prefill_rate",
        "mean_uncached",
    )

    def __init__(self) -> None:
        self.queued: Column = np.zeros(0)
        self.started: Column = np.zeros(0)
        self.prefill_tokens: Column = np.zeros(0)
        self.context_tokens: Column = np.zeros(0)
        self.foreign_queued: Column = np.zeros(0)
        self.foreign_running: Column = np.zeros(0)
        self.kv_usage: Column = np.zeros(0)
        self.capacity_tokens: Column = np.zeros(0)
        self.prefill_rate: Column = np.zeros(0)
        self.mean_uncached: Column = np.zeros(0)
        self.rates: list[PrefillRate] = []
        self.active_adapters: list[frozenset[str]] = []

    def reset(self, slot: int, capacity_tokens: int) -> None:
        """Makes ``slot`` a replica with no work, growing the columns as needed."""
        if slot >= len(self.rates):
            missing = slot + 1 - len(self.rates)
            for name in self._COLUMNS:
                setattr(self, name, np.append(getattr(self, name), np.zeros(missing)))
            self.rates.extend(PrefillRate() for _ in range(missing))
            self.active_adapters.extend(frozenset() for _ in range(missing))
        for name in self._COLUMNS:
            getattr(self, name)[slot] = 0.0
        self.rates[slot] = PrefillRate()
        self.active_adapters[slot] = frozenset()
        self.capacity_tokens[slot] = capacity_tokens
        self.prefill_rate[slot] = self._fleet_rate()

    def dispatch(self, slot: int, prompt_tokens: int, uncached_tokens: int) -> None:
        self.queued[slot] += 1
        self.prefill_tokens[slot] += uncached_tokens
        self.context_tokens[slot] += prompt_tokens
        mean = self.mean_uncached[slot]
        self.mean_uncached[slot] = uncached_tokens if mean == 0 else mean + (1 - _MEAN_FADE) * (uncached_tokens - mean)

    def start(self, slot: int, uncached_tokens: int) -> None:
        """A dispatched request's prefill is done."""
        self.queued[slot] -= 1
        self.started[slot] += 1
        self.prefill_tokens[slot] -= uncached_tokens

    def finish(self, slot: int, prompt_tokens: int) -> None:
        """A started request is over."""
        self.started[slot] -= 1
        self.context_tokens[slot] -= prompt_tokens

    def learn(self, slot: int, tokens: int, seconds: float) -> None:
        """The first token came ``seconds`` after dispatch, with ``tokens`` to compute before it."""
        rate = self.rates[slot]
        rate.observe(tokens, seconds)
        if rate.known:
            self.prefill_rate[slot] = rate.tokens_per_s()

    def report(self, slot: int, report: LoadReport) -> None:
        self.kv_usage[slot] = report.kv_usage
        self.foreign_queued[slot] = max(0.0, report.waiting - self.queued[slot])
        surplus = report.running + report.waiting - self.queued[slot] - self.started[slot]
        self.foreign_running[slot] = max(0.0, surplus - self.foreign_queued[slot])
        self.active_adapters[slot] = report.active_adapters

    def _fleet_rate(self) -> float:
        known = [rate.tokens_per_s() for rate in self.rates if rate.known]
        return sum(known) / len(known) if known else PRIOR_TOKENS_PER_S
