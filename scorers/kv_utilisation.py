"""Prefers replicas whose running requests hold less of the KV memory.

``score = 1 - kv_usage``, by the replica's last report.
"""

from __future__ import annotations

from router.core.types import Request, Scores
from router.core.view import Candidates, View


class KvUtilisation:
    name = "kv-utilisation"

    def score(self, request: Request, candidates: Candidates, view: View) -> Scores:
        return (1.0 - view.kv_usage).clip(0.0, 1.0)
