"""Holds requests while no replica could start one more usefully: all steps are full for a while, or all KV memory is.

A replica has room for a request when the prompt tokens that it has still to compute are below what ``steps`` steps
take, and three things fit its KV memory together: what its running requests hold by its last report, what it has still
to compute, and what it does not hold of this prompt. An idle replica always has room, so that nothing waits for ever.

When one replica has room the profile chooses among all. It weighs affinity against load better than a gate can: when
only those with room could be chosen, siblings were torn from their prefix and programs took up to 1.3 times as long
(swarms on two replicas of llama-3.1-8b-1xh100 at load 1.1, against no gate).
"""

from __future__ import annotations

import numpy as np

from router.core.flow import Mask, Waiting
from router.core.view import Candidates, View


class StepBudget:
    """Room everywhere as soon as one replica could start the request."""

    name = "step-budget"

    def __init__(self, steps: float = 4.0, max_num_batched_tokens: int = 8192) -> None:
        """``max_num_batched_tokens``: what a step of the replicas computes at most, vLLM's flag of that name."""
        self._budget_tokens = steps * max_num_batched_tokens

    def room(self, waiting: Waiting, candidates: Candidates, view: View) -> Mask:
        queued_tokens = view.queued_prefill_tokens
        uncached_tokens = waiting.request.prompt_tokens - candidates.cached_tokens
        fits = view.kv_usage * view.capacity_tokens + queued_tokens + uncached_tokens <= view.capacity_tokens
        has_room = np.count_nonzero(fits & (queued_tokens < self._budget_tokens)) > 0
        is_idle = not has_room and (view.queued_requests + view.running_requests == 0).any()
        return np.full(len(candidates), has_room or is_idle)
