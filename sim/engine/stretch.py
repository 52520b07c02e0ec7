"""Many decode steps in one go.

While all running requests decode, a step touches the block pool only for those that start a new block or fill
one, about two in ``block_size`` of them. Everything else is arithmetic. The few touches are made in the order in
which single steps would make them, by the same code, so the outcome is the same to the last block and event.
"""

from __future__ import annotations

from math import inf
from typing import NamedTuple

from sim.engine.request import Request
from sim.engine.scheduler import Scheduler, shares_block
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
    if len(running) < config.max_num_batched_tokens and scheduler.next_admission() is not None:
        return None

    limit = min(request.finish_total_tokens - request.total_tokens for request in running)
    if max_steps is not None:
        limit = min(limit, max_steps)
    horizon_ps = inf if until_s == inf else (until_s - now) * PS_PER_S
    block_size = config.block_size_tokens
    touching = _requests_by_phase(running, block_size)
    step_ps, growth_ps = _first_step_ps(scheduler), len(running) * config.step_time.context_token_ps

    steps = duration_ps = 0
    while steps < limit and (steps == 0 or duration_ps < horizon_ps):
        due = touching[steps % block_size]
        if _starting_blocks(due, steps, block_size) > scheduler.pool.free_blocks:
            break
        if scheduler.blocked is not None and any(
            _fills_block_for(scheduler.blocked, request, steps, block_size) for request in due
        ):
            break
        for request in due:
            scheduler.reserve(request, request.computed_tokens + steps + 1)
        steps += 1
        duration_ps += step_ps
        step_ps += growth_ps
    return Stretch(steps, duration_ps) if steps else None


def _requests_by_phase(running: list[Request], block_size: int) -> list[list[Request]]:
    """For each step, modulo the block size, the requests whose token in it is the first or last of a block."""
    phases: list[list[Request]] = [[] for _ in range(block_size)]
    for request in running:
        starts = -request.computed_tokens % block_size
        phases[starts].append(request)
        if block_size > 1:
            phases[starts - 1].append(request)
    return phases


def _starting_blocks(due: list[Request], steps: int, block_size: int) -> int:
    return sum((request.computed_tokens + steps) % block_size == 0 for request in due)


def _fills_block_for(waiting: Request, request: Request, steps: int, block_size: int) -> bool:
    """Whether this request fills a block now that the waiting one could share."""
    blocks, rest = divmod(request.computed_tokens + steps + 1, block_size)
    return rest == 0 and shares_block(request, waiting, blocks - 1)


def _first_step_ps(scheduler: Scheduler) -> int:
    work = Work()
    for request in scheduler.running:
        work.add(1, request.computed_tokens)
    return scheduler.config.step_time.duration_ps(work)
