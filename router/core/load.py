"""What each replica is busy with: work sent and not finished, corrected by what the replica reports.

Weft's own requests are counted exactly, the moment they leave and return. Reports are up to a poll interval old, so
they only add what Weft cannot know: requests that came from elsewhere.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
from numpy.typing import NDArray

from router.core.rates import PRIOR_TOKENS_PER_S, PrefillRate
from router.core.types import LoadReport

Column = NDArray[np.float64]

UNKNOWN_CAPACITY_TOKENS = 400_000
"""Stands in for the KV capacity of a replica that does not tell it."""

_MEAN_STEP = 0.02

_ROOMY = 0.9
"""KV usage above which requests may wait for memory rather than for computing."""

(
    QUEUED,
    STARTED,
    PREFILL_TOKENS,
    CONTEXT_TOKENS,
    FOREIGN_QUEUED,
    FOREIGN_RUNNING,
    FOREIGN_PREFILL_TOKENS,
    KV_USAGE,
    CAPACITY_TOKENS,
    PREFILL_RATE,
    MEAN_UNCACHED,
) = range(11)


class Load:
    """``table[column, slot]``, float64; each column is also an attribute by its name below.

    ======================  ===================================================================
    queued                  own requests whose prefill has not been answered yet
    started                 own requests that are answering
    prefill_tokens          prompt tokens of ``queued`` requests that must be computed
    context_tokens          prompt tokens of all own requests: what their decoding holds in KV
    foreign_queued          requests waiting there that Weft did not send, by the last report
    foreign_running         requests running there that Weft did not send, by the last report
    foreign_prefill_tokens  what ``foreign_queued`` may have to compute, if they are average
    kv_usage                share of KV blocks in use, 0..1, by the last report
    capacity_tokens         KV capacity
    prefill_rate            tokens per second, learned; the fleet's mean until then
    mean_uncached           running mean of prompt tokens to compute per request
    ======================  ===================================================================
    """

    def __init__(self) -> None:
        self.rates: list[PrefillRate] = []
        self._roomy_rates: list[PrefillRate] = []
        """The same, learned only while there was memory for all."""
        self._compute_rates: dict[int, float] = {}
        """What these have come to, by slot; only where that is known."""
        self.active_adapters: list[frozenset[str]] = []
        self._use(np.zeros((MEAN_UNCACHED + 1, 0)))

    def _use(self, table: NDArray[np.float64]) -> None:
        self.table = table
        self.queued = table[QUEUED]
        self.started = table[STARTED]
        self.prefill_tokens = table[PREFILL_TOKENS]
        self.context_tokens = table[CONTEXT_TOKENS]
        self.foreign_queued = table[FOREIGN_QUEUED]
        self.foreign_running = table[FOREIGN_RUNNING]
        self.foreign_prefill_tokens = table[FOREIGN_PREFILL_TOKENS]
        self.kv_usage = table[KV_USAGE]
        self.capacity_tokens = table[CAPACITY_TOKENS]
        self.prefill_rate = table[PREFILL_RATE]
        self.mean_uncached = table[MEAN_UNCACHED]

    def reset(self, slot: int, capacity_tokens: int) -> None:
        """Makes ``slot`` a replica with no work, adding columns as needed. Capacity 0: unknown."""
        missing = slot + 1 - len(self.rates)
        if missing > 0:
            self._use(np.pad(self.table, ((0, 0), (0, missing))))
            self.rates.extend(PrefillRate() for _ in range(missing))
            self._roomy_rates.extend(PrefillRate() for _ in range(missing))
            self.active_adapters.extend(frozenset() for _ in range(missing))
        self.table[:, slot] = 0.0
        self.rates[slot], self._roomy_rates[slot] = PrefillRate(), PrefillRate()
        self._compute_rates.pop(slot, None)
        self.active_adapters[slot] = frozenset()
        self.set_capacity(slot, capacity_tokens)
        self.prefill_rate[slot] = self.fleet_rate()

    def set_capacity(self, slot: int, tokens: int) -> None:
        self.capacity_tokens[slot] = tokens or UNKNOWN_CAPACITY_TOKENS

    def dispatch(self, slot: int, prompt_tokens: int, uncached_tokens: int) -> None:
        self.queued[slot] += 1
        self.prefill_tokens[slot] += uncached_tokens
        self.context_tokens[slot] += prompt_tokens
        mean = self.mean_uncached[slot]
        step = 1.0 if mean == 0 else _MEAN_STEP
        self.mean_uncached[slot] = mean + step * (uncached_tokens - mean)

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
        if self.kv_usage[slot] < _ROOMY:
            roomy = self._roomy_rates[slot]
            roomy.observe(tokens, seconds)
            if roomy.known:
                self._compute_rates[slot] = roomy.tokens_per_s()

    def report(self, slot: int, report: LoadReport) -> None:
        self.kv_usage[slot] = report.kv_usage
        self.foreign_queued[slot] = max(0.0, report.waiting - self.queued[slot])
        self.foreign_prefill_tokens[slot] = self.foreign_queued[slot] * self.mean_uncached[slot]
        surplus = report.running + report.waiting - self.queued[slot] - self.started[slot]
        self.foreign_running[slot] = max(0.0, surplus - self.foreign_queued[slot])
        self.active_adapters[slot] = report.active_adapters

    def fleet_rate(self) -> float:
        """Prefill tokens per second of a usual replica."""
        return _usual([rate.tokens_per_s() for rate in self.rates if rate.known])

    def compute_rate(self, slot: int) -> float:
        """Prefill tokens per second while there is memory; of a usual replica, while nothing is known of this one."""
        known = self._compute_rates.get(slot)
        return _usual(self._compute_rates.values()) if known is None else known


def _usual(rates: Collection[float]) -> float:
    return sum(rates) / len(rates) if rates else PRIOR_TOKENS_PER_S
