"""Holds what replicas cannot start usefully: those whose steps are full for a while, or whose KV memory is.

A replica has room for a request when

- the prompt tokens that it has still to compute are below what ``steps`` steps take, or it would still be through with
  this prompt before any replica that has room, because it holds more of it; and
- what its running requests hold of the KV memory by its last report, what it has still to compute, and what it does not
  hold of this prompt fit into ``kv_share`` of its capacity.

An idle replica always has room, so that nothing waits for ever.
"""

from __future__ import annotations

import numpy as np

from router.core.flow import Mask, Waiting
from router.core.view import Candidates, View


class StepBudget:
    """Room by queued prefill and by KV memory."""

    name = "step-budget"

    def __init__(
        self, steps: float = 2.0, max_num_batched_tokens: int = 8192, kv_share: float = 1.0, local: int = 1
    ) -> None:
        """``max_num_batched_tokens``: what a step of the replicas computes at most, vLLM's flag of that name."""
        self._budget_tokens = steps * max_num_batched_tokens
        self._kv_share = kv_share
        self.local = local

    def room(self, waiting: Waiting, candidates: Candidates, view: View) -> Mask:
        queued_tokens = view.queued_prefill_tokens
        through_tokens = queued_tokens + np.maximum(0.0, waiting.request.prompt_tokens - candidates.cached_tokens)
        kv_tokens = view.kv_usage * view.capacity_tokens + through_tokens
        fits = kv_tokens <= self._kv_share * view.capacity_tokens
        idle = view.queued_requests + view.running_requests == 0
        room: Mask = idle | (fits & (queued_tokens < self._budget_tokens))
        if self.local == 2:
            return np.full(len(candidates), room.any())
        if self.local and room.any() and not room.all():
            room |= fits & (through_tokens <= through_tokens[room].min())
        return room
