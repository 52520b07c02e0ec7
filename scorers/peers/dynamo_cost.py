"""NVIDIA Dynamo's default choice: the least prefill work plus decode load, in blocks.

For each replica (ai-dynamo/dynamo, lib/kv-router/src/scheduling/selector/default.rs and mod.rs, commit 07a6c9c;
defaults from config.rs, commit 0243c51)::

    overlap_credit  = overlap_score_credit * gpu + 0.75 * cpu + 0.25 * disk      cached blocks, by tier
    adjusted_prefill = max(prompt tokens not prefilled yet + incoming prompt - overlap_credit, 0)
    decode          = distinct prompt blocks of requests in flight there, the incoming one among them
    cost            = prefill_load_scale * adjusted_prefill + decode

The lowest cost wins (``router_temperature`` 0); equals are drawn at random.
"""

from __future__ import annotations

import numpy as np

from router.core.load import Column
from router.core.types import Request, Scores, Ticket, Usage
from router.core.view import Candidates, View
from scorers.peers.active_blocks import ActiveBlocks
from scorers.peers.blocks import block_sizes, chain_of
from scorers.peers.lexicographic import lexicographic


class DynamoCost:
    name = "dynamo-cost"

    def __init__(
        self,
        overlap_score_credit: float = 1.0,
        prefill_load_scale: float = 1.0,
        host_cache_hit_weight: float = 0.75,
        disk_cache_hit_weight: float = 0.25,
    ) -> None:
        self._prefill_load_scale = prefill_load_scale
        self._credits = np.array([overlap_score_credit, host_cache_hit_weight, disk_cache_hit_weight])
        self._active = ActiveBlocks()

    def score(self, request: Request, candidates: Candidates, view: View) -> Scores:
        return lexicographic(self.cost_blocks(request, candidates, view))

    def cost_blocks(self, request: Request, candidates: Candidates, view: View) -> Column:
        """What the lowest of wins."""
        sizes = block_sizes(candidates)
        credit_tokens = self._credits @ candidates.tier_tokens
        prefill_tokens = view.queued_prefill_tokens + request.prompt_tokens - credit_tokens
        decode_blocks = self._decode_blocks(request, candidates, sizes)
        cost: Column = self._prefill_load_scale * np.maximum(prefill_tokens, 0.0) / sizes + decode_blocks
        return cost

    def _decode_blocks(self, request: Request, candidates: Candidates, sizes: Column) -> Column:
        chains = {size: chain_of(request, int(size)) for size in np.unique(sizes)}
        names = [replica.name for replica in candidates.replicas]
        counts = [self._active.count_with(name, chains[size]) for name, size in zip(names, sizes, strict=True)]
        return np.array(counts, np.float64)

    def dispatched(self, request: Request, candidates: Candidates, position: int, now: float) -> None:
        replica = candidates.replicas[position]
        self._active.add(request.id, replica.name, chain_of(request, replica.block_size_tokens))

    def ended(self, ticket: Ticket, usage: Usage | None, now: float) -> None:
        self._active.remove(ticket.request.id)
