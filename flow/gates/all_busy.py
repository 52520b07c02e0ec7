"""Holds requests only while all replicas are busy, as NVIDIA Dynamo's router queue does.

A replica is busy while the prompt tokens that it has still to compute exceed ``threshold * max_num_batched_tokens``.
When one is not, the profile chooses among all of them. Dynamo's ``--router-queue-threshold``: 4.0 was its default until
v1.4.0 turned the queue off unless asked for. Source: ai-dynamo/dynamo, lib/kv-router/src/scheduling/queue.rs.
"""

from __future__ import annotations

import numpy as np

from router.core.flow import Mask, Waiting
from router.core.view import Candidates, View


class AllBusy:
    """Room everywhere as soon as there is room somewhere."""

    name = "all-busy"

    def __init__(self, threshold: float = 4.0, max_num_batched_tokens: int = 8192) -> None:
        """``max_num_batched_tokens``: what a step of the replicas computes at most, vLLM's flag of that name."""
        self._limit_tokens = threshold * max_num_batched_tokens

    def room(self, waiting: Waiting, candidates: Candidates, view: View) -> Mask:
        busy = view.queued_prefill_tokens > self._limit_tokens
        return np.full(len(candidates), not busy.all())
