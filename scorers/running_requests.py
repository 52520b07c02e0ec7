"""Prefers replicas with fewer requests in flight, waiting and running together.

``score = (max - requests) / (max - min)``; all 1 when all are equally busy.
"""

from __future__ import annotations

from router.core.types import Request, Scores
from router.core.view import Candidates, View
from scorers.scale import fewest_best


class RunningRequests:
    name = "running-requests"

    def score(self, request: Request, candidates: Candidates, view: View) -> Scores:
        return fewest_best(view.running_requests + view.queued_requests)
