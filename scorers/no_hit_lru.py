"""Spreads cold requests: those of which no replica holds anything yet.

A new prompt will be held where it is computed, so cold work goes to the replica that took cold work longest ago:
``score = 1`` for the least recent, falling linearly to 0 for the most recent. Warm requests score 0.5 everywhere
(llm-d's ``no-hit-lru-scorer``).
"""

from __future__ import annotations

import numpy as np

from router.core.types import Request, Scores
from router.core.view import Candidates, View


class NoHitLru:
    name = "no-hit-lru"

    def __init__(self) -> None:
        self._turn = 0
        self._last_turn: dict[str, int] = {}

    def score(self, request: Request, candidates: Candidates, view: View) -> Scores:
        if not self._cold(candidates):
            return np.full(len(candidates), 0.5)
        turns = np.array([self._last_turn.get(replica.name, 0) for replica in candidates.replicas])
        ranks = np.searchsorted(np.sort(turns), turns)
        scores: Scores = 1.0 - ranks / max(len(ranks) - 1, 1)
        return scores

    def dispatched(self, request: Request, candidates: Candidates, position: int, now: float) -> None:
        if self._cold(candidates):
            self._turn += 1
            self._last_turn[candidates.replicas[position].name] = self._turn

    @staticmethod
    def _cold(candidates: Candidates) -> bool:
        return not candidates.cached_tokens.any()
