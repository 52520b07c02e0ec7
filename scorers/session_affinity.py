"""Prefers the replica that served the session last: 1 for it, 0 for the others.

The session is whatever the client's headers or body name; requests without one score 0 everywhere. Sessions are
forgotten after ``ttl_s`` without a request, the oldest first when there are too many.
"""

from __future__ import annotations

from collections import OrderedDict

import numpy as np

from router.core.types import Request, Scores
from router.core.view import Candidates, View


class SessionAffinity:
    name = "session-affinity"

    def __init__(self, ttl_s: float = 3600.0, max_sessions: int = 100_000) -> None:
        self.ttl_s = ttl_s
        self.max_sessions = max_sessions
        self._last: OrderedDict[str, tuple[str, float]] = OrderedDict()

    def score(self, request: Request, candidates: Candidates, view: View) -> Scores:
        replica, seen_s = self._last.get(request.session_id, ("", 0.0))
        if not replica or view.now - seen_s > self.ttl_s:
            return np.zeros(len(candidates))
        return np.array([float(each.name == replica) for each in candidates.replicas])

    def dispatched(self, request: Request, candidates: Candidates, position: int, now: float) -> None:
        if not request.session_id:
            return
        self._last[request.session_id] = (candidates.replicas[position].name, now)
        self._last.move_to_end(request.session_id)
        while len(self._last) > self.max_sessions:
            self._last.popitem(last=False)
