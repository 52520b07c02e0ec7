"""Prefers replicas with fewer requests waiting for prefill.

``score = (max - queued) / (max - min)``; all 1 when all queues are equally long (llm-d's ``queue-scorer``).
"""

from __future__ import annotations

from router.core.types import Request, Scores
from router.core.view import Candidates, View
from scorers.scale import fewest_best


class QueueDepth:
    name = "queue-depth"

    def score(self, request: Request, candidates: Candidates, view: View) -> Scores:
        return fewest_best(view.queued_requests)
