"""NVIDIA Dynamo's LMetric: prompt tokens left to compute times requests in flight, with an eye on hot prefixes.

``cost = max(uncached prompt tokens, 1) * (requests in flight + 1)``; the lowest wins (ai-dynamo/dynamo,
lib/router-plugins/builtin/src/lmetric.rs, commit c2cb555, after "Simple is Better: Multiplication May Be All You Need
for LLM Request Scheduling", arXiv:2603.15202). Only what is cached on the GPU counts.

Requests that share their first 4 blocks are a class. With ``x`` the class's share of the last 1,000 requests, ``M``
the replicas that hold those blocks and ``N`` the others, the class is hot while ``x / (1 - x) > M / N``. Once ``2 M``
of its requests in a row would have gone to M, they go to the best of N, until the class cools down or a replica of N
is cheapest anyway.

Dynamo breaks ties by worker id; here the picker draws. Replicas that are ruled out score less than all others.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from router.core.load import Column
from router.core.types import Request, Scores
from router.core.view import Candidates, View
from scorers.peers.blocks import block_sizes, chain_of
from scorers.peers.lexicographic import lexicographic

_GPU = 0


@dataclass(slots=True)
class _Class:
    arrivals: int = 0
    """Within the window."""
    streak: int = 0
    """Hot requests in a row whose cheapest replica held the prefix."""


class DynamoLMetric:
    name = "dynamo-lmetric"

    def __init__(
        self, hotspot_detection: bool = True, class_prefix_blocks: int = 4, window_requests: int = 1000
    ) -> None:
        self._hotspot_detection = hotspot_detection
        self._class_prefix_blocks = class_prefix_blocks
        self._window_requests = window_requests
        self._window: deque[int] = deque()
        self._classes: dict[int, _Class] = {}

    def score(self, request: Request, candidates: Candidates, view: View) -> Scores:
        costs = self.cost_tokens(request, candidates, view)
        return lexicographic(~self._allowed(request, candidates, costs), costs)

    def cost_tokens(self, request: Request, candidates: Candidates, view: View) -> Column:
        """What the lowest of wins."""
        uncached_tokens = np.maximum(request.prompt_tokens - candidates.tier_tokens[_GPU], 1.0)
        costs: Column = uncached_tokens * (view.queued_requests + view.running_requests + 1.0)
        return costs

    def _allowed(self, request: Request, candidates: Candidates, costs: Column) -> NDArray[np.bool_]:
        everyone = np.ones(len(candidates), np.bool_)
        key = self._class_of(request, candidates)
        if key is None:
            return everyone
        holders = candidates.tier_tokens[_GPU] >= self._class_prefix_blocks * block_sizes(candidates)
        held, others = np.count_nonzero(holders), np.count_nonzero(~holders)
        share = self._record(key)
        state = self._classes[key]
        hot = held > 0 and others > 0 and share * others > (1.0 - share) * held
        state.streak = state.streak + 1 if hot and holders[costs.argmin()] else 0
        return ~holders if hot and state.streak >= 2 * held else everyone

    def _class_of(self, request: Request, candidates: Candidates) -> int | None:
        """None: the detector is off, or the prompt is too short to have a class."""
        if not self._hotspot_detection:
            return None
        chain = chain_of(request, candidates.replicas[0].block_size_tokens)
        last = self._class_prefix_blocks - 1
        return int(chain[last]) if last < len(chain) else None

    def _record(self, key: int) -> float:
        """Counts an arrival; returns the class's share of the window."""
        if len(self._window) == self._window_requests:
            oldest = self._window.popleft()
            self._classes[oldest].arrivals -= 1
            if not self._classes[oldest].arrivals:
                del self._classes[oldest]
        self._window.append(key)
        state = self._classes.setdefault(key, _Class())
        state.arrivals += 1
        return state.arrivals / len(self._window)
