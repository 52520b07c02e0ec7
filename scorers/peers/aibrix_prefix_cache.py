"""AIBrix's ``prefix-cache``: the best match among replicas that are not far above the mean, else the fewest requests.

The load is severely skewed when the highest number of requests in flight is above ``imbalance_factor * (mean + 1)`` and
at least ``imbalance_gap`` above the lowest: then only replicas with the lowest number can match. Of those that match,
the one with the highest percentage (a whole number) of the prompt's blocks wins, the one with fewer requests among
equals, provided that its requests are at most ``mean + deviations * standard deviation`` (of the sample). When nobody
matches, or none of them is below that, the replica with the fewest requests of all gets it.

Source: vllm-project/aibrix, ``pkg/plugins/gateway/algorithms/prefix_cache.go`` (01de8a5) and its README; earlier
versions, up to v0.7, know no factor and gate on a difference above 8 alone. Blocks are of 128 characters, as its
documentation has it, and the table holds 200,000. Not here: blocks unused for 20 minutes leave its table.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from router.core.load import Column
from router.core.types import Request, Scores
from router.core.view import Candidates, View
from scorers.peers.lexicographic import lexicographic
from scorers.peers.sent_prefixes import CHARS_PER_TOKEN, SentPrefixes

_BLOCK_TOKENS = 128 // CHARS_PER_TOKEN


class AibrixPrefixCache:
    name = "aibrix-prefix-cache"

    def __init__(
        self,
        imbalance_factor: float = 2.0,
        imbalance_gap: int = 8,
        deviations: float = 1.0,
        max_blocks: int = 200_000,
    ) -> None:
        self.imbalance_factor = imbalance_factor
        self.imbalance_gap = imbalance_gap
        self.deviations = deviations
        self._sent = SentPrefixes(_BLOCK_TOKENS, max_blocks)

    def score(self, request: Request, candidates: Candidates, view: View) -> Scores:
        requests = view.running_requests + view.queued_requests
        matched = self._sent.match(request, candidates)
        wins = (matched > 0) & self._may_match(requests) & self._is_within_deviations(requests)
        percent = matched * 100 // max(request.prompt_tokens // _BLOCK_TOKENS, 1)
        return lexicographic(~wins, np.where(wins, -percent, 0.0), requests)

    def dispatched(self, request: Request, candidates: Candidates, position: int, now: float) -> None:
        self._sent.add(request, candidates, position)

    def _may_match(self, requests: Column) -> NDArray[np.bool_]:
        low, high = requests.min(), requests.max()
        skewed = high > self.imbalance_factor * (requests.mean() + 1.0) and high - low >= self.imbalance_gap
        return requests == low if skewed else np.ones(len(requests), np.bool_)

    def _is_within_deviations(self, requests: Column) -> NDArray[np.bool_]:
        deviation = requests.std(ddof=1) if len(requests) > 1 else 0.0
        within: NDArray[np.bool_] = requests <= requests.mean() + self.deviations * deviation
        return within
