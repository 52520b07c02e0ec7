"""Many decode steps in one go.

While all running requests decode, how long a step takes and when blocks run out is arithmetic, so it is known
beforehand for how many steps nothing else can happen. The blocks of all of them are then taken and published in the
order in which single steps would do it: the outcome is the same to the last block. Only the events are put together:
what all steps removed, then what each request stored.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from sim.engine.events import BlocksRemoved, BlocksStored
from sim.engine.kv_cache import shares_block
from sim.engine.request import Request
from sim.engine.scheduler import Scheduler
from sim.engine.step_time import PS_PER_S, Work


class Stretch(NamedTuple):
    steps: int
    duration_ps: int


def decode_stretch(scheduler: Scheduler, now: float, until_s: float, max_steps: int | None) -> Stretch | None:
    """Reserve blocks for a stretch of decode steps, or None when the next step is not one of a stretch."""
    running, config = scheduler.running, scheduler.config
    if not running or len(running) > config.max_num_batched_tokens:
        return None
    if any(request.computed_tokens + 1 != request.total_tokens for request in running):
        return None
    if len(running) < config.max_num_batched_tokens and scheduler.may_admit():
        return None

    limit = min(request.finish_total_tokens - request.total_tokens for request in running)
    if max_steps is not None:
        limit = min(limit, max_steps)
    if scheduler.cache.blocked is not None:
        limit = min(limit, _steps_until_shared(running, scheduler.cache.blocked, config.block_size_tokens, limit))
    limit = _steps_with_blocks(scheduler, limit)
    if limit < 1:
        return None
    stretch = _timed(scheduler, limit, (until_s - now) * PS_PER_S)
    _reserve(scheduler, stretch.steps)
    return stretch


def _steps_until_shared(running: list[Request], waiting: Request, block_size: int, limit: int) -> int:
    """Steps before the one that fills a block which the waiting request could share. If that is not so for the block
    that a request is writing, it is not for any later one."""
    for request in running:
        block, written = divmod(request.computed_tokens, block_size)
        if shares_block(request, waiting, block):
            limit = min(limit, block_size - written - 1)
    return limit


def _steps_with_blocks(scheduler: Scheduler, limit: int) -> int:
    """How many of so many steps find the blocks that they need."""
    block_size = scheduler.config.block_size_tokens
    available = scheduler.cache.pool.free_blocks + sum(request.held_blocks for request in scheduler.running)

    def needed(steps: int) -> int:
        return sum(-(-(request.computed_tokens + steps) // block_size) for request in scheduler.running)

    return limit if needed(limit) <= available else bisect_right(range(1, limit), available, key=needed)


def _timed(scheduler: Scheduler, limit: int, horizon_ps: float) -> Stretch:
    """As many steps as begin before the horizon, but one at least. Each takes longer than the one before, for every
    sequence has grown by a token."""
    work = Work()
    for request in scheduler.running:
        work.add(1, request.computed_tokens)
    first_ps = scheduler.config.step_time.duration_ps(work)
    growth_ps = len(scheduler.running) * scheduler.config.step_time.context_token_ps

    def duration_ps(steps: int) -> int:
        return steps * first_ps + growth_ps * (steps * (steps - 1) // 2)

    steps = 1 + bisect_left(range(1, limit), horizon_ps, key=duration_ps)
    return Stretch(steps, duration_ps(steps))


def _reserve(scheduler: Scheduler, steps: int) -> None:
    """Give every running request the blocks of its next ``steps`` tokens, and publish those that are full then."""
    running, block_size = scheduler.running, scheduler.config.block_size_tokens
    firsts = [request.computed_tokens // block_size for request in running]
    ends = [-(-(request.computed_tokens + steps) // block_size) for request in running]
    starts = [0, *accumulate(end - first for first, end in zip(firsts, ends, strict=True))]
    blocks, hashes = np.empty(starts[-1], np.int32), np.zeros(starts[-1], np.uint64)
    for request, first, end, start in zip(running, firsts, ends, starts, strict=False):
        blocks[start : start + end - first] = request.block_table[first:end]
        known = request.block_hashes[first:end]
        hashes[start : start + len(known)] = known
    written = np.array([request.computed_tokens % block_size for request in running])
    evicted = scheduler.cache.pool.write(np.array(starts), written, steps, block_size, blocks, hashes)
    if len(evicted):
        scheduler.cache.events.append(BlocksRemoved(evicted))
    for request, first, end, start in zip(running, firsts, ends, starts, strict=False):
        request.block_table[first:end] = blocks[start : start + end - first]
        request.held_blocks = end
        full = min((request.computed_tokens + steps) // block_size, len(request.block_hashes))
        if full > request.hashed_blocks:
            scheduler.cache.events.append(BlocksStored(request, request.hashed_blocks, full - request.hashed_blocks))
            request.hashed_blocks = full
