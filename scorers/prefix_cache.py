"""Prefers replicas that hold more of the prompt.

``score = weighted cached tokens / prompt tokens``. A block in CPU or disk offload must be loaded before use, so it
counts for less than one on the GPU; the default weights are NVIDIA Dynamo's (host 0.75, disk 0.25).
"""

from __future__ import annotations

import numpy as np

from router.core.types import Request, Scores
from router.core.view import Candidates, View


class PrefixCache:
    name = "prefix-cache"

    def __init__(self, cpu_weight: float = 0.75, disk_weight: float = 0.25) -> None:
        self._tier_weights = np.array([1.0, cpu_weight, disk_weight])

    def score(self, request: Request, candidates: Candidates, view: View) -> Scores:
        weighted: Scores = self._tier_weights @ candidates.tier_tokens
        return weighted / max(request.prompt_tokens, 1)
