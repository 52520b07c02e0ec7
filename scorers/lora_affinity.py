"""Prefers replicas that have the request's LoRA adapter loaded.

``score = 1`` where the adapter is in use, else ``1 / (2 + adapters in use)``: the emptier, the sooner it is loaded
and the fewer others it pushes out. Requests for the base model score 1 everywhere.
"""

from __future__ import annotations

import numpy as np

from router.core.types import Request, Scores
from router.core.view import Candidates, View


class LoraAffinity:
    name = "lora-affinity"

    def score(self, request: Request, candidates: Candidates, view: View) -> Scores:
        if not any(request.model in replica.adapters for replica in candidates.replicas):
            return np.ones(len(candidates))
        in_use = view.active_adapters
        return np.array([1.0 if request.model in names else 1.0 / (2.0 + len(names)) for names in in_use])
