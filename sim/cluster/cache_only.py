"""A trace through the caches alone: no steps, no tool waits, only which blocks are where when a prompt comes.

Each replica is an LRU list of the blocks of prompts; answers take no room. A prompt hits as far as its leading blocks
are there, a partial block at its end included. KV events reach the router at once. As a router weighs load, there is
work: the fleet computes exactly as fast as prompts bring uncached tokens, every replica 1/N of it, in order. So a
replica that gets more than its share falls behind for good, and nothing else takes time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from router.core.index.batch import KvBatch
from router.core.index.hashing import chain_seed, hash_blocks
from router.core.router import Router
from router.core.types import (
    Hashes,
    Health,
    IndexState,
    Outcome,
    Prompt,
    ReplicaSpec,
    Request,
    Ticket,
    Tokens,
    Usage,
)
from sim.cluster.lru_cache import LruCache
from sim.cluster.tokens import render
from sim.workloads.program import Program

_MODEL = "model"
_TOKENS_PER_S = 10_000.0
"""What a replica computes, for routers that predict times."""


@dataclass(slots=True)
class CacheRun:
    """Tokens by replica."""

    prompt_tokens: list[int]
    cached_tokens: list[int]
    requests: list[int]

    @property
    def hit_rate(self) -> float:
        return sum(self.cached_tokens) / sum(self.prompt_tokens)

    @property
    def imbalance(self) -> float:
        """The most tokens computed by a replica, over the mean."""
        computed = self.computed_tokens
        return max(computed) * len(computed) / sum(computed)

    @property
    def computed_tokens(self) -> list[int]:
        return [prompt - cached for prompt, cached in zip(self.prompt_tokens, self.cached_tokens, strict=True)]


class CacheReplay:
    """Routes prompts one after the other and keeps the caches."""

    def __init__(
        self,
        router: Router,
        replicas: int,
        capacity_blocks: int | None,
        block_size_tokens: int = 512,
        *,
        kv_events: bool = True,
    ) -> None:
        """A router that knows no replica yet, and the blocks that each cache can hold; None: unbounded. Without KV
        events the router goes by what it sent."""
        self._router = router
        self._kv_events = kv_events
        self._block_size = block_size_tokens
        self._seed = chain_seed(_MODEL)
        self._caches = [LruCache(capacity_blocks) for _ in range(replicas)]
        self._work: list[deque[_Work]] = [deque() for _ in range(replicas)]
        self._now = 0.0
        self._run = CacheRun([0] * replicas, [0] * replicas, [0] * replicas)
        for number in range(replicas):
            self._add_replica(str(number), capacity_blocks or 0)

    def run(self, programs: Iterable[Program]) -> CacheRun:
        """All steps of all programs, in their order. Raises LookupError when the router refuses one."""
        for program in programs:
            for step in program.steps:
                self._serve(render(step)[: step.prompt_tokens], program.id)
        return self._run

    def _serve(self, tokens: Tokens, session_id: str) -> None:
        run, number = self._run, sum(self._run.requests)
        request = Request(str(number), _MODEL, Prompt(tokens), streams=True, session_id=session_id)
        ticket = self._router.submit(request, self._now)
        self._router.poll(self._now)
        if ticket.decision is None:
            raise LookupError(f"the router refused request {number}: {ticket.refusal}")
        replica = int(ticket.decision.replica.name)
        hits = self._use_cache(replica, tokens)
        cached_tokens = min(hits * self._block_size, len(tokens))
        run.requests[replica] += 1
        run.prompt_tokens[replica] += len(tokens)
        run.cached_tokens[replica] += cached_tokens
        self._work[replica].append(_Work(ticket, Usage(len(tokens), cached_tokens, 1), len(tokens) - cached_tokens))
        self._compute(len(tokens) - cached_tokens)

    def _use_cache(self, replica: int, tokens: Tokens) -> int:
        """Leading blocks that were there; tells the router what changed."""
        hashes = _block_hashes(tokens, self._block_size)
        hits, new, evicted = self._caches[replica].use(hashes.tolist())
        whole = len(tokens) // self._block_size
        batches = [self._stored(hashes, tokens, first, end) for first, end in _stretches(new, whole)]
        if evicted:
            batches.append(KvBatch.removed(evicted))
        if batches and self._kv_events:
            self._router.on_kv_events(str(replica), KvBatch.join(batches), self._now)
        return hits

    def _stored(self, hashes: Hashes, tokens: Tokens, first: int, end: int) -> KvBatch:
        size = self._block_size
        parent = int(hashes[first - 1]) if first else None
        return KvBatch.stored(
            hashes[first:end], tokens[first * size : end * size], size, parent=parent, seed=self._seed
        )

    def _compute(self, tokens: int) -> None:
        """The fleet computes this many tokens."""
        share = tokens / len(self._work)
        self._now += share / _TOKENS_PER_S
        for queue in self._work:
            left = share
            while queue and queue[0].tokens <= left:
                done = queue.popleft()
                left -= done.tokens
                self._router.on_response_start(done.ticket, self._now)
                self._router.on_response_end(done.ticket, done.usage, Outcome.OK, self._now)
            if queue:
                queue[0].tokens -= left

    def _add_replica(self, name: str, capacity_blocks: int) -> None:
        spec = ReplicaSpec(
            name,
            f"http://{name}",
            models=(_MODEL,),
            block_size_tokens=self._block_size,
            capacity_blocks=capacity_blocks,
            reports_events=self._kv_events,
        )
        self._router.on_replica(spec, self._now)
        self._router.on_health(name, Health.HEALTHY, self._now)
        self._router.on_index_state(name, IndexState.SYNCED if self._kv_events else IndexState.NONE, self._now)


@dataclass(slots=True)
class _Work:
    ticket: Ticket
    usage: Usage
    tokens: float
    """That remain to be computed."""


def _block_hashes(tokens: Tokens, block_size_tokens: int) -> Hashes:
    """Of the full blocks and of the rest, if there is one."""
    hashes = hash_blocks(tokens, block_size_tokens, 1)
    rest = tokens[len(hashes) * block_size_tokens :]
    if not len(rest):
        return hashes
    parent = int(hashes[-1]) if len(hashes) else 1
    return np.append(hashes, hash_blocks(rest, len(rest), parent))


def _stretches(positions: list[int], end: int) -> list[tuple[int, int]]:
    """Ascending positions below ``end`` as (first, end) of each run of consecutive ones."""
    runs: list[tuple[int, int]] = []
    for position in positions:
        if position >= end:
            break
        if runs and runs[-1][1] == position:
            runs[-1] = (runs[-1][0], position + 1)
        else:
            runs.append((position, position + 1))
    return runs
