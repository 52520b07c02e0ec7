"""SMG's ``cache_aware``, for HTTP workers: the prefix's holders unless they are hot, the shortest expected wait else.

Workers with 8 waiting requests or 80 % of their KV memory in use are left out while others are there (overload
protection, on by default). Of the others, *hot* are those with more requests in flight than 1.5 times the mean and
than the mean plus a margin of 64, which is capped at the natural swing of such a count: two standard deviations, 4 at
least (here those of a Poisson count, the square root of the mean). When more than ``cache_threshold`` of the prompt was
sent somewhere before, its holders are all that were sent as much. The request goes to a holder that is not hot, else to
anyone who is not hot, and among equals to the one with the least expected wait (`LoadMonitor`). When all are
overloaded, the one with the fewest requests in flight gets it.

Source: smg-project/smg, ``model_gateway/src/policies/cache_aware.rs`` (fc5995b: ``select_worker_with_text``,
``select_final_from_affinity``, ``candidate_requires_spill``); the cap of the margin, the overload protection and all
defaults by ``smg launch --help`` of November 2026. Its string tree holds 64 Mi characters, over all workers. Not here:
its cap of 8 holders per prefix, and the warming of new workers, which only its gRPC workers get.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from router.core.load import Column
from router.core.types import Request, Scores
from router.core.view import Candidates, View
from scorers.peers.lexicographic import lexicographic
from scorers.peers.sent_prefixes import CHARS_PER_TOKEN, SentPrefixes
from scorers.peers.smg_load_monitor import LoadMonitor

_CHUNK_TOKENS = 16
_LEAST_MARGIN = 4.0


class SmgCacheAware:
    name = "smg-cache-aware"

    def __init__(
        self,
        cache_threshold: float = 0.3,
        balance_abs_threshold: float = 64.0,
        balance_rel_threshold: float = 1.5,
        overload_waiting_requests: int = 8,
        overload_kv_usage: float = 0.8,
        poll_interval_s: float = 10.0,
        max_tree_chars: int = 67_108_864,
    ) -> None:
        self.cache_threshold = cache_threshold
        self.balance_abs_threshold = balance_abs_threshold
        self.balance_rel_threshold = balance_rel_threshold
        self.overload_waiting_requests = overload_waiting_requests
        self.overload_kv_usage = overload_kv_usage
        self._monitor = LoadMonitor(poll_interval_s)
        self._sent = SentPrefixes(_CHUNK_TOKENS, max_tree_chars // CHARS_PER_TOKEN // _CHUNK_TOKENS)

    def score(self, request: Request, candidates: Candidates, view: View) -> Scores:
        self._monitor.poll(candidates, view)
        in_flight = view.running_requests + view.queued_requests
        overloaded = (self._monitor.waiting(candidates) >= self.overload_waiting_requests) | (
            self._monitor.kv_usage(candidates) >= self.overload_kv_usage
        )
        if overloaded.all():
            return lexicographic(in_flight)
        hot = self._is_hot(in_flight, float(in_flight[~overloaded].mean()))
        chosen = self._holds(request, candidates) & ~hot
        return lexicographic(overloaded, ~chosen, hot, self._monitor.expected_wait_s(candidates))

    def dispatched(self, request: Request, candidates: Candidates, position: int, now: float) -> None:
        self._sent.add(request, candidates, position)
        self._monitor.sent(int(candidates.slots[position]))

    def _is_hot(self, in_flight: Column, mean: float) -> NDArray[np.bool_]:
        margin = min(self.balance_abs_threshold, max(_LEAST_MARGIN, 2.0 * mean**0.5))
        hot: NDArray[np.bool_] = in_flight > max(self.balance_rel_threshold * mean, mean + margin)
        return hot

    def _holds(self, request: Request, candidates: Candidates) -> NDArray[np.bool_]:
        matched_tokens = self._sent.match(request, candidates) * _CHUNK_TOKENS
        most = matched_tokens.max()
        if most <= self.cache_threshold * request.prompt_tokens:
            return np.zeros(len(candidates), np.bool_)
        holders: NDArray[np.bool_] = matched_tokens == most
        return holders
