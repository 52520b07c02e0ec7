"""Prefers replicas that should answer first.

``ttft = overhead + (queued prefill tokens + own uncached tokens) / prefill rate`` with the rate learned online per
replica, and ``score = best ttft / ttft``: a replica twice as slow as the best scores 0.5. The overhead keeps
differences that nobody would notice from counting.
"""

from __future__ import annotations

import numpy as np

from router.core.types import Request, Scores
from router.core.view import Candidates, View


class PredictedTtft:
    name = "predicted-ttft"

    def __init__(self, overhead_s: float = 0.05) -> None:
        self.overhead_s = overhead_s

    def score(self, request: Request, candidates: Candidates, view: View) -> Scores:
        tokens = view.queued_prefill_tokens + (request.prompt_tokens - candidates.cached_tokens)
        ttft_s = tokens / view.prefill_tokens_per_s + self.overhead_s
        scores: Scores = np.minimum.reduce(ttft_s) / ttft_s
        return scores
