"""Prefers replicas whose KV memory is promised to fewer tokens.

``score = capacity / (capacity + tokens)``, where tokens are the prompts in flight, or what the replica last reported
in use when that is more. It falls gently, never reaches 0, and so still tells two overloaded replicas apart.
"""

from __future__ import annotations

import numpy as np

from router.core.types import Request, Scores
from router.core.view import Candidates, View


class InFlightTokens:
    name = "in-flight-tokens"

    def score(self, request: Request, candidates: Candidates, view: View) -> Scores:
        capacity = view.capacity_tokens
        tokens = np.maximum(view.context_tokens, view.kv_usage * capacity)
        scores: Scores = capacity / (capacity + tokens)
        return scores
