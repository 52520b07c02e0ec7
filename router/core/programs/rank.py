"""Upward ranks: the longest expected path from each step to the end of its program, kept up to date.

    path(s) = wait(s) + time(s) + max(tail(s), max over the followers f of s of path(f))

HEFT's upward rank (Topcuoglu, Hariri, Wu, TPDS 2002) without its cost of communication. A step that is over has no
time and, as whatever waited for it no longer does, no predecessors that count; so most events concern one step and
those that follow it. What was expected wrongly moves up to the steps that are waited for, once each in most cases.
"""

from __future__ import annotations

from heapq import heappop, heappush

from router.core.programs.step import Step


def settle(step: Step) -> None:
    """The step's wait, time, tail or followers have changed: its rank and those above it follow."""
    if not step.waits_for:
        update(step)
        return
    # Larger numbers first: a step is looked at when those that follow it are settled.
    todo = [(-step.number, step)]
    while todo:
        _, step = heappop(todo)
        if update(step):
            for before in step.waits_for:
                heappush(todo, (-before.number, before))


def set_time(step: Step, time_s: float) -> None:
    """The expected time of the step's call; `settle` must follow."""
    step.program.known_s += time_s - step.time_s
    step.time_s = time_s


def set_tail(step: Step, calls: float, seconds: float) -> None:
    """What is expected beyond the known followers; `settle` must follow."""
    step.tail_s = seconds
    if calls != step.tail_calls:
        step.tail_calls = calls
        if calls:
            step.program.tails.note(step)


def update(step: Step) -> bool:
    """Of this step alone, by its followers' ranks as they stand. False: its rank is what it was."""
    ahead_s = step.tail_s
    for follower in step.followers:
        if follower.path_s > ahead_s:
            ahead_s = follower.path_s
    path_s = step.wait_s + step.time_s + ahead_s
    if path_s == step.path_s:
        return False
    step.path_s = path_s
    if path_s:
        step.program.paths.note(step)
    return True
