"""Prefers replicas whose only role is the leg in question over those that serve both legs."""

from __future__ import annotations

from router.core.types import Request, Scores
from router.core.view import Candidates, Leg, View


class PdRole:
    name = "pd-role"

    def score(self, request: Request, candidates: Candidates, view: View) -> Scores:
        fleet, slots = candidates.fleet, candidates.slots
        others = fleet.decoding if view.leg is Leg.PREFILL else fleet.prefilling
        scores: Scores = (~others[slots]).astype(float)
        return scores
