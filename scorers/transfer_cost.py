"""Prefers prefill replicas from which the prompt's KV blocks come quickly to the replica that answers.

``score = (least transfer + 0.01 s) / (transfer + 0.01 s)``: differences that nobody would notice do not count. Where
nothing is transferred all are equal.
"""

from __future__ import annotations

import numpy as np

from router.core.types import Request, Scores
from router.core.view import Candidates, View

_UNNOTICED_S = 0.01


class TransferCost:
    name = "transfer-cost"

    def score(self, request: Request, candidates: Candidates, view: View) -> Scores:
        if view.transfer_s is None:
            return np.ones(len(candidates))
        seconds = view.transfer_s + _UNNOTICED_S
        scores: Scores = np.minimum.reduce(seconds) / seconds
        return scores
