"""Many decode steps in one go.

While all running requests decode, a step touches the block pool only for those that start a new block or fill
one, about two in ``block_size`` of them. Everything else is arithmetic. The few touches are made in the order in
which single steps would make them, by the same code, so the outcome is the same to the last block and event.
"""

from __future__ import annotations

from math import inf
from typing import NamedTuple

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
    head = _next_in_line(scheduler)
    if head is not None and scheduler.lookup(head) is not None:
        return None

    limit = min(request.prompt_tokens + request.output_tokens - request.total_tokens for request in running)
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
        if head is not None and any(_helps(request, steps, head, block_size) for request in due):
            break
        for request in due:
            scheduler.reserve(request, request.computed_tokens + steps + 1)
        steps += 1
        duration_ps += step_ps
        step_ps += growth_ps
    return Stretch(steps, duration_ps) if steps else None


def _next_in_line(scheduler: Scheduler) -> Request | None:
    """The waiting request that could join the batch if blocks permit."""
    config, running = scheduler.config, len(scheduler.running)
    if not scheduler.waiting or running >= min(config.max_num_seqs, config.max_num_batched_tokens):
        return None
    return scheduler.waiting.first()


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


def _helps(request: Request, steps: int, head: Request, block_size: int) -> bool:
    """Whether the block that this request fills is one that the head of the queue could then share."""
    block, rest = divmod(request.computed_tokens + steps + 1, block_size)
    index = block - 1
    if rest or index >= min(len(request.block_hashes), len(head.block_hashes)):
        return False
    return request.block_hashes[index] == head.block_hashes[index]


def _first_step_ps(scheduler: Scheduler) -> int:
    work = Work()
    for request in scheduler.running:
        work.add(1, request.computed_tokens)
    return scheduler.config.step_time.duration_ps(work)
