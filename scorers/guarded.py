"""Keeps a user's scorer from breaking requests.

A scorer that raises, or returns the wrong shape or values that are not numbers, scores 0 for everyone; the mishap is
counted and shown, the request goes on.
"""

from __future__ import annotations

import numpy as np

from router.core.scheduler import DispatchObserver, EndObserver, Scorer
from router.core.types import Request, Scores, Ticket, Usage
from router.core.view import Candidates, View


class Guarded:
    def __init__(self, scorer: Scorer) -> None:
        self.name = scorer.name
        self.mishaps = 0
        self.last_mishap = ""
        self._scorer = scorer

    def score(self, request: Request, candidates: Candidates, view: View) -> Scores:
        try:
            scores = np.asarray(self._scorer.score(request, candidates, view), dtype=np.float64)
        except Exception as error:  # whatever a stranger's code raises
            return self._nothing(candidates, repr(error))
        if scores.shape != (len(candidates),):
            return self._nothing(candidates, f"shape {scores.shape}, expected ({len(candidates)},)")
        if not np.isfinite(scores).all():
            return self._nothing(candidates, "values that are not finite")
        return scores.clip(0.0, 1.0)

    def dispatched(self, request: Request, candidates: Candidates, position: int, now: float) -> None:
        if isinstance(self._scorer, DispatchObserver):
            try:
                self._scorer.dispatched(request, candidates, position, now)
            except Exception as error:  # whatever a stranger's code raises
                self._count(repr(error))

    def ended(self, ticket: Ticket, usage: Usage | None, now: float) -> None:
        if isinstance(self._scorer, EndObserver):
            try:
                self._scorer.ended(ticket, usage, now)
            except Exception as error:  # whatever a stranger's code raises
                self._count(repr(error))

    def _nothing(self, candidates: Candidates, why: str) -> Scores:
        self._count(why)
        return np.zeros(len(candidates))

    def _count(self, why: str) -> None:
        self.mishaps += 1
        self.last_mishap = why
