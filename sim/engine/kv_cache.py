"""The blocks of requests: found in the cache, taken, published, given back; and the events of all that.

Blocks are published to the prefix cache when their tokens are scheduled, not when they are computed, so requests
scheduled in the same step already share them.
"""

from __future__ import annotations

import numpy as np

from sim.engine.block_pool import NO_BLOCKS, BlockPool
from sim.engine.config import EngineConfig
from sim.engine.events import BlocksRemoved, BlocksStored, CacheCleared, KvEvent
from sim.engine.kernels import Blocks
from sim.engine.request import Request


class KvCache:
    """Which request holds which blocks of the pool."""

    __slots__ = ("block_size", "blocked", "events", "pool")

    def __init__(self, config: EngineConfig) -> None:
        self.block_size = config.block_size_tokens
        self.pool = BlockPool(config.num_blocks)
        self.events: list[KvEvent] = []
        """Since they were last taken, oldest first."""
        self.blocked: Request | None = None
        """A waiting request found not to fit. Nothing can change that but a release of blocks and the publication of
        one that it could share, so until then it is not looked up again."""

    def room_for(self, request: Request, promised_blocks: int = 0) -> Blocks | None:
        """The cached blocks that a waiting request starts with; None when there is no room for the rest of its tokens.

        At least one token is always computed, for the model needs something to compute an output from. And the
        whole request must fit, not only its first chunk, lest it be preempted before it is through. What another
        replica sends must also leave alone the blocks that are promised to others.
        """
        if request is self.blocked:
            return None
        if request.held_blocks:
            hits, held = NO_BLOCKS, request.held_blocks
        else:
            hits = self.pool.find_prefix(request.block_hashes, (request.total_tokens - 1) // self.block_size)
            held = len(hits) - self.pool.free_among(hits)
        lacking = self.blocks_of(request.total_tokens) - held
        if request.remote_tokens > len(hits) * self.block_size and promised_blocks:
            lacking = max(lacking, self.blocks_of(request.remote_tokens) - held + promised_blocks)
        if lacking > self.pool.free_blocks:
            self.blocked = request
            return None
        return hits

    def blocks_of(self, tokens: int) -> int:
        return -(-tokens // self.block_size)

    def hold(self, request: Request, hits: Blocks) -> None:
        """Give the request the cached blocks that it starts with."""
        self.pool.hold(hits)
        request.block_table = np.empty(-(-request.finish_total_tokens // self.block_size), np.int32)
        request.block_table[: len(hits)] = hits
        request.held_blocks = request.hashed_blocks = len(hits)
        request.computed_tokens = len(hits) * self.block_size

    def reserve(self, request: Request, upto_tokens: int) -> bool:
        """Give the request blocks for its first ``upto_tokens`` tokens and publish those that are full then.

        False, and nothing is done, when too few are free.
        """
        if not self.take(request, upto_tokens):
            return False
        if upto_tokens // self.block_size > request.hashed_blocks:
            self.publish(request, upto_tokens)
        return True

    def take(self, request: Request, upto_tokens: int) -> bool:
        """Give the request blocks for its first ``upto_tokens`` tokens, or nothing when too few are free."""
        held, needed = request.held_blocks, -(-upto_tokens // self.block_size)
        if needed > held:
            if needed - held > self.pool.free_blocks:
                return False
            request.held_blocks = needed
            evicted = self.pool.take(request.block_table[held:needed])
            if len(evicted):
                self.events.append(BlocksRemoved(evicted))
        return True

    def publish(self, request: Request, upto_tokens: int) -> None:
        """Let those blocks be found that are full with so many tokens, as far as they have hashes."""
        first = request.hashed_blocks
        full = min(upto_tokens // self.block_size, len(request.block_hashes))
        if full <= first:
            return
        self.pool.publish(request.block_table[first:full], request.block_hashes[first:full])
        request.hashed_blocks = full
        if self.blocked is not None and shares_block(request, self.blocked, first):
            self.blocked = None
        self.events.append(BlocksStored(request, first, full - first))

    def release(self, request: Request) -> None:
        """Give back what the request holds. Its published blocks remain hits."""
        self.pool.release(request.blocks)
        request.block_table, request.held_blocks = NO_BLOCKS, 0
        self.blocked = None

    def reset(self) -> bool:
        """Forget every cached block. False, and nothing is done, while requests hold blocks."""
        if self.pool.used_blocks:
            return False
        self.pool.clear()
        self.events.append(CacheCleared())
        return True

    def take_events(self) -> list[KvEvent]:
        events, self.events = self.events, []
        return events


def shares_block(one: Request, other: Request, block: int) -> bool:
    """Whether both have the same tokens up to the end of this block."""
    hashes, others = one.block_hashes, other.block_hashes
    return block < len(hashes) and block < len(others) and bool(hashes[block] == others[block])
