"""vLLM v1's scheduler: which request computes how many tokens in the next step.

There is no prefill phase and no decode phase. Every request has ``total_tokens`` (prompt and output so far) and
``computed_tokens``, and a step lets the second catch up with the first within one budget of tokens: requests that
run first, in their order, then waiting ones. When a running request finds no block, the least entitled running
request is preempted: it loses its blocks and is computed again later, prefix cache permitting.

Blocks are published to the prefix cache when their tokens are scheduled, not when they are computed, so requests
scheduled in the same step already share them.
"""

from __future__ import annotations

import numpy as np

from sim.engine.block_pool import NO_BLOCKS, BlockPool
from sim.engine.config import EngineConfig, Policy
from sim.engine.events import BlocksRemoved, BlocksStored, CacheCleared, KvEvent
from sim.engine.kernels import Blocks
from sim.engine.request import Request, Status
from sim.engine.waiting import make_queue


class Batch:
    """What one step computes."""

    __slots__ = ("admitted", "budget", "preempted", "tokens")

    def __init__(self, budget: int) -> None:
        self.budget = budget
        """Tokens that may still be added."""
        self.tokens: dict[Request, int] = {}
        """How many each request computes, in the order in which they were scheduled."""
        self.admitted: list[Request] = []
        self.preempted: list[Request] = []

    def add(self, request: Request, tokens: int) -> None:
        self.tokens[request] = tokens
        self.budget -= tokens

    def discard(self, request: Request) -> None:
        self.budget += self.tokens.pop(request, 0)


class Scheduler:
    """Owns the queues and the blocks."""

    def __init__(self, config: EngineConfig) -> None:
        self.config = config
        self.pool = BlockPool(config.num_blocks)
        self.waiting = make_queue(config.policy)
        self.running: list[Request] = []
        self.events: list[KvEvent] = []
        """Since they were last taken, oldest first."""
        self.preemptions = 0
        self.prefix_queries_tokens = 0
        self.prefix_hits_tokens = 0
        self.blocked: Request | None = None
        """A waiting request found not to fit. Nothing can change that but a release of blocks and the publication of
        one that it could share, so until then it is not looked up again."""

    def schedule(self, now: float) -> Batch:
        """Decide on the next step and reserve its blocks."""
        batch = Batch(self.config.max_num_batched_tokens)
        self._schedule_running(batch)
        if not batch.preempted:
            self._admit_waiting(batch, now)
        return batch

    def finish(self, requests: list[Request], status: Status) -> None:
        """Requests that run or wait end; their blocks become free, and remain hits."""
        for request in requests:
            if request.status is not Status.RUNNING:
                self.waiting.remove(request)
            request.status = status
            self._release(request)
        self.running = [request for request in self.running if request.status is Status.RUNNING]

    def reset_prefix_cache(self, *, preempt_running: bool) -> bool:
        """Forget every cached block. False, and nothing is done, while requests hold blocks."""
        if preempt_running:
            while self.running:
                self._preempt(self.running.pop())
        if self.pool.used_blocks:
            return False
        self.pool.clear()
        self.events.append(CacheCleared())
        return True

    def take_events(self) -> list[KvEvent]:
        events, self.events = self.events, []
        return events

    def reserve(self, request: Request, upto_tokens: int) -> bool:
        """Give the request blocks for its first ``upto_tokens`` tokens and publish those that are full then.

        False, and nothing is done, when too few are free.
        """
        block_size = self.config.block_size_tokens
        missing = -(-upto_tokens // block_size) - request.held_blocks
        if missing > 0:
            if missing > self.pool.free_blocks:
                return False
            self._take_blocks(request, missing)
        first, full = request.hashed_blocks, upto_tokens // block_size
        if full > first:
            full = min(full, len(request.block_hashes))
            if full > first:
                self._publish(request, first, full)
        return True

    def next_admission(self) -> tuple[Request, Blocks] | None:
        """The waiting request that can join the batch, with the cached blocks it starts with.

        At least one token is always computed, for the model needs something to compute an output from. And the
        whole request must fit, not only its first chunk, lest it be preempted before it is through.
        """
        if not self.waiting or len(self.running) >= self.config.max_num_seqs:
            return None
        request = self.waiting.first()
        if request is self.blocked:
            return None
        block_size = self.config.block_size_tokens
        hits = self.pool.find_prefix(request.block_hashes, (request.total_tokens - 1) // block_size)
        needed = -(-request.total_tokens // block_size) - len(hits)
        if needed + self.pool.free_among(hits) > self.pool.free_blocks:
            self.blocked = request
            return None
        return request, hits

    def _schedule_running(self, batch: Batch) -> None:
        index = 0
        while index < len(self.running) and batch.budget > 0:
            request = self.running[index]
            tokens = min(request.total_tokens - request.computed_tokens, batch.budget)
            while not self.reserve(request, request.computed_tokens + tokens):
                victim = self._pick_victim()
                victim_index = self.running.index(victim)
                del self.running[victim_index]
                index -= victim_index < index
                batch.discard(victim)
                batch.preempted.append(victim)
                self._preempt(victim)
                if victim is request:
                    return
            batch.add(request, tokens)
            index += 1

    def _admit_waiting(self, batch: Batch, now: float) -> None:
        while batch.budget > 0 and (admission := self.next_admission()):
            request, hits = admission
            self.waiting.pop()
            self._start(request, hits, now)
            tokens = min(request.total_tokens - request.computed_tokens, batch.budget)
            self.reserve(request, request.computed_tokens + tokens)
            batch.add(request, tokens)
            batch.admitted.append(request)

    def _start(self, request: Request, hits: Blocks, now: float) -> None:
        block_size = self.config.block_size_tokens
        self.pool.hold(hits)
        request.block_table = np.empty(-(-request.finish_total_tokens // block_size), np.int32)
        request.block_table[: len(hits)] = hits
        request.held_blocks = request.hashed_blocks = len(hits)
        request.computed_tokens = len(hits) * block_size
        if not request.preemptions:
            request.cached_tokens = request.computed_tokens
            request.scheduled_s = now
            self.prefix_queries_tokens += request.total_tokens
            self.prefix_hits_tokens += request.computed_tokens
        request.status = Status.RUNNING
        self.running.append(request)

    def _pick_victim(self) -> Request:
        if self.config.policy is Policy.PRIORITY:
            return max(self.running, key=lambda request: (request.priority, request.arrival_s))
        return self.running[-1]

    def _preempt(self, request: Request) -> None:
        self._release(request)
        request.hashed_blocks = 0
        request.computed_tokens = 0
        request.preemptions += 1
        request.status = Status.PREEMPTED
        self.preemptions += 1
        self.waiting.put_back(request)

    def _release(self, request: Request) -> None:
        self.pool.release(request.blocks)
        request.block_table, request.held_blocks = NO_BLOCKS, 0
        self.blocked = None

    def _take_blocks(self, request: Request, count: int) -> None:
        first, request.held_blocks = request.held_blocks, request.held_blocks + count
        evicted = self.pool.take(request.block_table[first : request.held_blocks])
        if len(evicted):
            self.events.append(BlocksRemoved(evicted))

    def _publish(self, request: Request, first: int, full: int) -> None:
        self.pool.publish(request.block_table[first:full], request.block_hashes[first:full])
        request.hashed_blocks = full
        if self.blocked is not None and shares_block(request, self.blocked, first):
            self.blocked = None
        self.events.append(BlocksStored(request, first, full - first))


def shares_block(one: Request, other: Request, block: int) -> bool:
    """Whether both have the same tokens up to the end of this block."""
    hashes, others = one.block_hashes, other.block_hashes
    return block < len(hashes) and block < len(others) and bool(hashes[block] == others[block])
