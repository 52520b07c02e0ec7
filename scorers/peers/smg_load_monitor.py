"""What SMG knows of its workers' load: gauges as they were at the last poll, and what it sent since.

``expected wait = (waiting + sent since) * 1024 tokens / 2000 tokens/s + 0.15 s * usage / (1 - usage)``, with the
number of waiting requests and the share of KV memory in use by the poll. Prometheus gauges, all that vLLM offers, tell
neither tokens nor throughput, so SMG takes its own defaults for both. As waiting count all requests whose prefill is
not done, a few more than the engine's own gauge has.

Source: smg-project/smg, ``model_gateway/src/policies/least_load.rs`` (11b1fe0); a poll every 10 s is its default.
"""

from __future__ import annotations

import numpy as np

from router.core.fleet import MAX_REPLICAS
from router.core.load import Column
from router.core.view import Candidates, View

_REQUEST_TOKENS = 1024
_TOKENS_PER_S = 2000.0
_KV_PRESSURE_S = 0.15
_FULLEST = 0.999


class LoadMonitor:
    def __init__(self, poll_interval_s: float) -> None:
        self.poll_interval_s = poll_interval_s
        self._polled_s = np.full(MAX_REPLICAS, -np.inf)
        self._waiting = np.zeros(MAX_REPLICAS)
        self._kv_usage = np.zeros(MAX_REPLICAS)
        self._sent_since = np.zeros(MAX_REPLICAS)

    def poll(self, candidates: Candidates, view: View) -> None:
        """Looks again at the candidates whose last poll is too long ago."""
        due = view.now - self._polled_s[candidates.slots] >= self.poll_interval_s
        slots = candidates.slots[due]
        self._polled_s[slots] = view.now
        self._waiting[slots] = view.queued_requests[due]
        self._kv_usage[slots] = view.kv_usage[due]
        self._sent_since[slots] = 0.0

    def sent(self, slot: int) -> None:
        self._sent_since[slot] += 1.0

    def waiting(self, candidates: Candidates) -> Column:
        """Waiting requests at the last poll."""
        return self._waiting[candidates.slots]

    def kv_usage(self, candidates: Candidates) -> Column:
        """Share of KV memory in use at the last poll."""
        return self._kv_usage[candidates.slots]

    def expected_wait_s(self, candidates: Candidates) -> Column:
        slots = candidates.slots
        usage = self._kv_usage[slots].clip(0.0, _FULLEST)
        queued_tokens = (self._waiting[slots] + self._sent_since[slots]) * _REQUEST_TOKENS
        wait_s: Column = queued_tokens / _TOKENS_PER_S + _KV_PRESSURE_S * usage / (1.0 - usage)
        return wait_s
